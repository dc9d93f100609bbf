//! A request on its way to an endpoint.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::balance::{ClaimKind, EndpointId};
use crate::body::Body;
use crate::config;
use crate::head::request;
use crate::headers::Trace;
use crate::message::Interim;
use crate::telemetry::record::span_of;
use crate::upstream::{Outcome, Wish};

use super::identify::TRACEPARENT;
use super::receive::Kept;
use super::retry::{Doubt, doubt};

/// A request on its way to an endpoint.
pub(super) struct Forward<'a> {
    /// The head, rewritten.
    pub head: &'a request::Parts,
    /// The body.
    pub body: Outgoing,
    /// Takes interim responses.
    pub interim: &'a Interim,
    /// Whether a tunnel is asked for.
    pub upgrade: bool,
    /// Whether the request changes nothing.
    pub read_only: bool,
    /// Whose it is, as far as clients are told apart.
    pub client: IpAddr,
    /// Whether each attempt has a span of its own; that of the exchange stands in the head.
    pub traced: bool,
}

impl<'a> Forward<'a> {
    /// The endpoint it wants until then, after those it has `tried`.
    pub(super) fn wish<'w>(&self, tried: &'w [EndpointId], until: Option<Instant>) -> Wish<'w>
    where
        'a: 'w,
    {
        Wish {
            kind: if self.upgrade { ClaimKind::Tunnel } else { ClaimKind::Exchange },
            tried,
            expendable: self.read_only && self.body.is_at_hand(),
            client: self.client,
            path: self.head.uri.path(),
            until,
        }
    }

    /// The head of an attempt with a span of its own, which the endpoint's spans are to hang below; `None` where no spans are
    /// made and all attempts have one head. `number` gives the attempt's, from 1.
    pub(super) fn head_of(&self, number: impl FnOnce() -> u32) -> Option<Box<request::Parts>> {
        if !self.traced {
            return None;
        }
        let parent = self.head.headers.get(TRACEPARENT)?;
        let trace = Trace::parse(parent.as_bytes())?;
        let mut head = Box::new(self.head.clone());
        let span = span_of(trace.span_id(), number());
        head.headers.insert(TRACEPARENT, trace.child(span).to_value());
        Some(head)
    }

    /// Whether it may be asked for twice at once: it changes nothing whoever answers (RFC 9110 §9.2.1), and has no content.
    pub(super) fn may_be_hedged(&self) -> bool {
        !self.upgrade && self.head.method.is_safe() && matches!(self.body, Outgoing::Empty)
    }

    /// Whether another endpoint may know better, and may be asked.
    pub(super) fn doubt(&self, outcome: &Outcome, route: &config::Route) -> Option<Doubt> {
        let Outcome::Response { head, .. } = outcome else { return None };
        let repeatable = self.read_only && !self.upgrade && self.body.is_at_hand();
        repeatable.then(|| doubt(head.status, self.head.uri.path(), &route.retry)).flatten()
    }
}

/// A request body on its way to an endpoint.
pub(super) enum Outgoing {
    /// None.
    Empty,
    /// Collected: can be sent again.
    Kept(Arc<Kept>),
    /// Streams from the client; `None` once it was sent.
    Stream(Option<Body>),
}

impl Outgoing {
    /// The content, when all of it is in memory.
    pub(super) fn in_memory(&self) -> Option<Vec<u8>> {
        match self {
            Self::Empty => Some(Vec::new()),
            Self::Kept(kept) => kept.in_memory(),
            Self::Stream(_) => None,
        }
    }

    pub(super) const fn is_at_hand(&self) -> bool {
        matches!(self, Self::Empty | Self::Kept(_) | Self::Stream(Some(_)))
    }

    pub(super) const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    pub(super) fn body(&mut self) -> Body {
        match self {
            Self::Empty => Body::empty(),
            Self::Kept(kept) => kept.body(),
            Self::Stream(body) => body.take().unwrap_or_default(),
        }
    }
}
