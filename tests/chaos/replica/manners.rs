//! How a replica behaves; good unless told otherwise.

use std::time::Duration;

/// Everything about a replica that can be spoilt.
#[derive(Clone, Debug)]
pub(super) struct Manners {
    /// What a request takes.
    pub(super) work: Duration,
    /// Status of every answer but those on `/health`.
    pub(super) errors: Option<u16>,
    /// Status of `/health`.
    pub(super) health: u16,
    /// What becomes of new connections.
    pub(super) accepting: Accepting,
    /// On how many of a thousand requests the connection is closed, and when; at any moment if `None`.
    pub(super) cut: Option<(Option<Cut>, u32)>,
    /// How long a connection may be idle.
    pub(super) keep_alive: Duration,
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Accepting {
    /// It is served.
    Serve,
    /// It is reset.
    Reset,
}

/// A moment at which a connection is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cut {
    /// Right after an answer, or a little later: when the next request may be on its way.
    Idle,
    /// In the middle of the request's head, the rest unread.
    Unread,
    /// After the whole request, before a byte of the answer.
    Unanswered,
    /// In the middle of the answer's head.
    Head,
    /// In the middle of the answer's body.
    Body,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            work: Duration::from_millis(10),
            errors: None,
            health: 200,
            accepting: Accepting::Serve,
            cut: None,
            keep_alive: Duration::from_secs(2),
        }
    }
}

impl Manners {
    /// Takes an order:
    ///
    /// - `normal`: good manners again;
    /// - `work MILLISECONDS`: what each request takes;
    /// - `errors STATUS`: the answer to everything but `/health`;
    /// - `health STATUS`: the answer to `/health`;
    /// - `accept reset`: RST to every new connection;
    /// - `cut WHERE PER_MILLE`: `idle`, `unread`, `unanswered`, `head`, `body` or `any`;
    /// - `keep-alive MILLISECONDS`: how long a connection may be idle.
    pub(super) fn obey(&mut self, order: &str) {
        let words: Vec<&str> = order.split(' ').collect();
        match words.as_slice() {
            ["normal"] => *self = Self::default(),
            ["work", milliseconds] => self.work = Duration::from_millis(number(milliseconds)),
            ["errors", status] => self.errors = Some(number(status)),
            ["health", status] => self.health = number(status),
            ["accept", "reset"] => self.accepting = Accepting::Reset,
            ["cut", moment, share] => self.cut = Some((Cut::named(moment), number(share))),
            ["keep-alive", milliseconds] => self.keep_alive = Duration::from_millis(number(milliseconds)),
            _ => panic!("no such order: {order}"),
        }
    }

    /// When the connection of the request at hand is closed, if it is.
    pub(super) fn cuts(&self) -> Option<Cut> {
        let (cut, _) = self.cut.filter(|(_, share)| fastrand::u32(0..1000) < *share)?;
        Some(cut.unwrap_or_else(|| Cut::ALL[fastrand::usize(..Cut::ALL.len())]))
    }
}

impl Cut {
    const ALL: [Self; 5] = [Self::Idle, Self::Unread, Self::Unanswered, Self::Head, Self::Body];

    /// The moment of that name; `None` for `any`.
    fn named(name: &str) -> Option<Self> {
        match name {
            "idle" => Some(Self::Idle),
            "unread" => Some(Self::Unread),
            "unanswered" => Some(Self::Unanswered),
            "head" => Some(Self::Head),
            "body" => Some(Self::Body),
            "any" => None,
            _ => panic!("no such moment: {name}"),
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().unwrap_or_else(|_| panic!("no number: {word}"))
}
