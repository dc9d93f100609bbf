//! A record that holds nothing but itself.
//!
//! Part of `telemetry::record`. The pieces of a request are slices of the buffer that it was read into; a record that is
//! kept for long takes copies of them instead.

use http::Uri;

use super::{Attempt, Record, Traced};
use crate::head::HeaderValue;

impl Record {
    /// A copy that shares no buffer with the request.
    pub fn detached(&self) -> Self {
        Self {
            request_id: copy(&self.request_id),
            traceparent: self.traceparent.as_ref().map(copy),
            // Nobody who keeps a record for long makes spans of it.
            traced: None,
            host: self.host.as_ref().map(copy),
            // What was parsed once parses again.
            target: Uri::try_from(self.target.to_string()).unwrap_or_default(),
            user_agent: self.user_agent.as_ref().map(copy),
            referer: self.referer.as_ref().map(copy),
            ..self.clone()
        }
    }

    /// Bytes that a detached record takes, the names that it shares with the configuration not counted.
    pub fn size(&self) -> u64 {
        let fields = [&self.traceparent, &self.host, &self.user_agent, &self.referer];
        let texts: usize = fields.into_iter().flatten().map(HeaderValue::len).sum();
        let target = length(&self.target);
        let traced = self.traced.as_ref().map_or(0, |traced| traced.size());
        let lists = self.attempts.iter().count() * size_of::<Attempt>()
            + size_of_val(self.limits.as_slice())
            + size_of_val(self.verdicts.as_slice());
        let whole = size_of::<Self>() + self.request_id.len() + texts + target + lists + traced;
        u64::try_from(whole).unwrap_or(u64::MAX)
    }
}

impl Traced {
    fn size(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |(_, target)| length(target));
        size_of::<Self>() + self.state.as_ref().map_or(0, HeaderValue::len) + asked
    }
}

/// Bytes of path and query.
fn length(target: &Uri) -> usize {
    target.path().len() + target.query().map_or(0, str::len)
}

fn copy(value: &HeaderValue) -> HeaderValue {
    // What was a value once is one again.
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
}
