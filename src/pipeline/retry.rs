//! Whether, and where, a failed attempt may be repeated (RFC 9110 §9.2.2).

use crate::lexicon::Clock;
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
        (Failure::Request(_), _) => Next::Never,
        (Failure::Closed(_), Sent::Nothing) => Next::Afresh,
        // Not a byte has left: safe for any method.
        (_, Sent::Nothing) => Next::Elsewhere,
        (Failure::Closed(_), Sent::OnReused) if repeatable => Next::Afresh,
        (Failure::Closed(_), Sent::OnFresh) if repeatable => Next::Elsewhere,
        // A slow answer is not a lost one: a repetition would run the warehouse's query twice.
        (Failure::Late(Clock::FirstByte), _) => Next::Never,
        (_, Sent::OnReused | Sent::OnFresh) => Next::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
