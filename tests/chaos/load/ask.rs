//! What is asked, and what the right answer to it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::content;

/// A kind of request, as Superset's users make them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// GET of a page or an asset.
    Page,
    /// POST that only reads: a chart's data. Shipped as safe to retry.
    Chart,
    /// POST that changes something.
    Write,
    /// GET whose answer comes in pieces.
    Export,
    /// POST of a file.
    Upload,
}

/// How often each kind is asked, in percent; the same for every client.
const MIX: [(Kind, u32); 5] =
    [(Kind::Page, 50), (Kind::Chart, 30), (Kind::Write, 10), (Kind::Export, 7), (Kind::Upload, 3)];

/// Pieces in which an upload is sent.
const PIECES: usize = 8;

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Its number; also in its path, so that it is found again in the proxy's records and the replicas' journals.
    pub(crate) id: u64,
    /// Its kind.
    pub(crate) kind: Kind,
    /// `GET` or `POST`.
    pub(crate) method: http::Method,
    /// Path and query.
    pub(crate) path: String,
    /// The body, in the pieces in which it is sent.
    pub(crate) body: Vec<Bytes>,
    /// What is waited between two pieces.
    pub(crate) pause: Duration,
    size: usize,
}

impl Kind {
    /// Whether a request of this kind may be made twice without harm (RFC 9110 §9.2.1, and the read-only POSTs that
    /// the proxy ships).
    pub(crate) const fn is_safe(self) -> bool {
        match self {
            Self::Page | Self::Chart | Self::Export => true,
            Self::Write | Self::Upload => false,
        }
    }

    /// One of the mix.
    pub(crate) fn any() -> Self {
        let mut dice = fastrand::u32(..100);
        for (kind, share) in MIX {
            match dice.checked_sub(share) {
                None => return kind,
                Some(rest) => dice = rest,
            }
        }
        Self::Page
    }
}

impl Ask {
    /// A request of that kind, whose pieces, if it has any, take `span` in all.
    pub(crate) fn new(kind: Kind, span: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let get = http::Method::GET;
        let post = http::Method::POST;
        let milliseconds = span.as_millis();
        let (method, path, asked, size) = match kind {
            Kind::Page => (get, format!("/superset/welcome/?id={id}&size=3000"), 0, 3_000),
            Kind::Chart => (post, format!("/api/v1/chart/data?id={id}&size=6000"), 400, 6_000),
            Kind::Write => (post, format!("/api/v1/dashboard/?id={id}&size=500"), 300, 500),
            Kind::Export => {
                (get, format!("/api/v1/sqllab/export/x/?id={id}&size=60000&stream={milliseconds}"), 0, 60_000)
            }
            Kind::Upload => (post, format!("/upload/?id={id}&size=100"), 120_000, 100),
        };
        let content = Bytes::from(content::bytes(!id, asked));
        let (body, pause) = match kind {
            Kind::Upload => {
                let length = content.len().div_ceil(PIECES);
                let pieces = (0..PIECES).map(|n| content.slice(n * length..((n + 1) * length).min(content.len())));
                (pieces.collect(), span / u32::try_from(PIECES).expect("a few"))
            }
            _ if content.is_empty() => (Vec::new(), Duration::ZERO),
            _ => (vec![content], Duration::ZERO),
        };
        Self { id, kind, method, path, body, pause, size }
    }

    /// Length of the body.
    pub(crate) fn length(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Whether `body` is the right answer, byte by byte.
    pub(crate) fn is_answered_by(&self, body: &[u8]) -> bool {
        body == content::answer(self.id, &self.body.concat(), self.size)
    }
}
