//! Whether, where and when an attempt may be repeated (RFC 9110 §9.2.2). Pure.

use std::time::Duration;

use http::StatusCode;

use crate::balance::Live;
use crate::config::route::RouteRetry;
use crate::lexicon::Clock;
use crate::telemetry::metrics::RetryCause;
use crate::upstream::{Failure, Sent};

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Once more on the same endpoint, over a fresh connection: the one that failed had been idle and was closed in
    /// that very moment.
    Afresh,
    /// On another endpoint.
    Elsewhere,
    /// Not at all: the endpoint may have acted on it, or the fault is not the endpoint's.
    Never,
}

/// The verdict on an attempt that failed with `failure` after `sent` had left. `repeatable` says that the request
/// changes nothing (a safe method, or a POST that an operator listed as read-only) and that its body is at hand.
pub(super) const fn verdict(failure: &Failure, sent: Sent, repeatable: bool) -> Next {
    match (failure, sent) {
        // Our own end of the exchange holds for every endpoint.
        (Failure::Request(_) | Failure::Late(Clock::Exchange), _) => Next::Never,
        (Failure::Closed(_), Sent::Nothing) => Next::Afresh,
        // Not a byte has left: safe for any method.
        (_, Sent::Nothing) => Next::Elsewhere,
        (Failure::Closed(_), Sent::OnReused) if repeatable => Next::Afresh,
        (Failure::Closed(_), Sent::OnFresh) if repeatable => Next::Elsewhere,
        // Not decided before an attempt, its share of the budget and another endpoint were taken for it.
        (Failure::Hangs | Failure::Slow, _) => Next::Elsewhere,
        // A slow answer is not a lost one: a repetition would run the warehouse's query twice.
        (Failure::Late(Clock::FirstByte), _) => Next::Never,
        (_, Sent::OnReused | Sent::OnFresh) => Next::Never,
    }
}

/// Why an answer that came is asked for once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Doubt {
    /// The endpoint says that it failed.
    Status,
    /// It does not have an asset that the others may have.
    Asset,
}

/// Whether another endpoint may know better than `status` for a read-only request of `path`.
pub(super) fn doubt(status: StatusCode, path: &str, rules: &RouteRetry) -> Option<Doubt> {
    if rules.statuses.contains(&status) {
        return Some(Doubt::Status);
    }
    let asset = status == StatusCode::NOT_FOUND
        && rules
            .assets
            .iter()
            .any(|prefix| path.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/')))
        && is_hashed(path);
    asset.then_some(Doubt::Asset)
}

/// Whether the file's name carries a hash, as bundlers write it: a part of eight or more hexadecimal digits, not all of
/// them letters, nor all digits, which would be a date.
fn is_hashed(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split(['.', '-', '_']).any(|part| {
        part.len() >= 8
            && part.bytes().all(|byte| byte.is_ascii_hexdigit())
            && part.bytes().any(|byte| byte.is_ascii_digit())
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    })
}

/// The wait before repeat number `repeat`, from 1. The first goes to another endpoint, which deserves no wait; later
/// ones wait `base`, doubled each time, less up to half by `chance` from 0 to 1, so that many do not come in step.
pub(super) fn back_off(repeat: u32, base: Duration, chance: f64) -> Duration {
    let Some(doublings) = repeat.checked_sub(2) else { return Duration::ZERO };
    let whole = base.saturating_mul(1_u32.checked_shl(doublings.min(10)).unwrap_or(u32::MAX));
    whole.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

/// What a failure tells about the endpoint; `None` when it tells nothing.
pub(super) const fn told(failure: &Failure, sent: Sent) -> Option<Live> {
    match (failure, sent) {
        (Failure::Unresolved | Failure::Connect(_) | Failure::Tls(_) | Failure::Late(Clock::Connect), _) => {
            Some(Live::ConnectFailed)
        }
        (Failure::Late(Clock::FirstByte | Clock::UpstreamWrite) | Failure::Hangs | Failure::Slow, _) => {
            Some(Live::Silent)
        }
        // The close of an idle connection is everyday life.
        (Failure::Closed(_), Sent::Nothing | Sent::OnReused) => None,
        (Failure::Closed(_) | Failure::Malformed(_) | Failure::HeadTooLarge, _) => Some(Live::Broken),
        (Failure::Late(_) | Failure::Request(_), _) => None,
    }
}

/// The cause under which a further attempt counts.
pub(super) const fn retry_cause(failure: &Failure, sent: Sent) -> RetryCause {
    match (failure, sent) {
        (Failure::Late(Clock::FirstByte | Clock::UpstreamWrite), _) => RetryCause::Silent,
        (Failure::Hangs, _) => RetryCause::Hangs,
        (Failure::Slow, _) => RetryCause::Slow,
        (_, Sent::Nothing) => RetryCause::Connect,
        (_, Sent::OnReused) => RetryCause::Race,
        (_, Sent::OnFresh) => RetryCause::Broken,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_hashed_assets_are_looked_for_elsewhere() {
        let rules = RouteRetry {
            statuses: vec![StatusCode::BAD_GATEWAY],
            assets: vec!["/static/".into()],
            asset_attempts: 2,
            hedge_percentile: None,
        };
        for (path, status, doubted) in [
            ("/static/assets/vendors.6a1b2c3d4e5f67890abc.entry.js", 404, Some(Doubt::Asset)),
            ("/static/assets/thumbnail.1a2b3c4d.chunk.js", 404, Some(Doubt::Asset)),
            ("/static/assets/a-1a2b3c4d5e6f.css", 404, Some(Doubt::Asset)),
            ("/static/assets/images/favicon.png", 404, None),
            ("/static/assets/20260101.js", 404, None),
            ("/static/assets/deadbeef/index.js", 404, None),
            ("/statics/vendors.6a1b2c3d4e.js", 404, None),
            ("/api/v1/chart/1a2b3c4d", 404, None),
            ("/static/assets/vendors.6a1b2c3d4e.js", 403, None),
            ("/anything", 502, Some(Doubt::Status)),
            ("/anything", 501, None),
        ] {
            assert_eq!(doubt(StatusCode::from_u16(status).unwrap(), path, &rules), doubted, "{path} {status}");
        }
    }

    proptest! {
        #[test]
        fn back_off_grows_stays_bounded_and_varies_by_half(repeat in 0_u32..40, base in 0_u64..10_000, chance in 0.0..=1.0) {
            let (base, wait) = (Duration::from_millis(base), back_off(repeat, Duration::from_millis(base), chance));
            let most = back_off(repeat, base, 0.0);
            prop_assert!(wait <= most && wait >= most / 2 - Duration::from_nanos(1).min(most / 2));
            prop_assert!(back_off(repeat + 1, base, 0.0) >= most);
            prop_assert!(most <= base * 1024);
            prop_assert!(repeat > 1 || wait.is_zero());
        }
    }

    #[test]
    fn unsafe_request_is_repeated_only_if_nothing_has_left() {
        assert_eq!(verdict(&Failure::Unresolved, Sent::Nothing, false), Next::Elsewhere);
        assert_eq!(verdict(&Failure::Closed(None), Sent::Nothing, false), Next::Afresh);
        assert_eq!(verdict(&Failure::Closed(None), Sent::OnReused, false), Next::Never);
        assert_eq!(verdict(&Failure::Closed(None), Sent::OnFresh, false), Next::Never);
    }

    #[test]
    fn slow_answer_is_never_asked_for_twice() {
        for sent in [Sent::OnReused, Sent::OnFresh] {
            assert_eq!(verdict(&Failure::Late(Clock::FirstByte), sent, true), Next::Never);
        }
    }

    #[test]
    fn safe_request_survives_a_dying_endpoint() {
        assert_eq!(verdict(&Failure::Closed(None), Sent::OnReused, true), Next::Afresh);
        assert_eq!(verdict(&Failure::Closed(None), Sent::OnFresh, true), Next::Elsewhere);
    }
}
