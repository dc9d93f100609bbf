//! Who waits, and who is next.
//!
//! Pure: no clock, no lock, no channel. Clients of a lane are served in turn, each one's own in their order, so that
//! however much one asks for, another waits for one round. The two lanes take turns as well while both have somebody.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// Which line one stands in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Lane {
    /// Everybody's.
    Main,
    /// For what is short and must get through: health and login paths.
    Express,
}

/// Bounds of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most in the main lane.
    pub(super) length: usize,
    /// Most of one client there.
    pub(super) per_client: usize,
    /// Most in the express lane; one client may have a quarter of it, and what is beyond stands in the main lane.
    pub(super) express_length: usize,
}

/// Why somebody may not wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoPlace {
    /// As many wait as may.
    Full,
    /// As many of this client wait as may.
    ClientFull,
}

/// What came of an attempt to serve somebody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Service {
    /// There is nothing for anybody.
    Over,
    /// Nothing for this one, but perhaps for those behind.
    Skip,
    /// This one leaves the line, served or not.
    Done,
}

/// A place in the line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket {
    lane: Lane,
    client: IpAddr,
    number: u64,
}

/// Those who wait.
#[derive(Debug)]
pub(super) struct Line<T> {
    next: u64,
    main: Queue<T>,
    express: Queue<T>,
    /// Whose turn it is.
    turn: Lane,
}

/// One lane.
#[derive(Debug)]
struct Queue<T> {
    length: usize,
    /// Clients that wait, in the order in which they are served.
    turns: VecDeque<IpAddr>,
    /// Nobody's entry is empty.
    waiting: HashMap<IpAddr, VecDeque<(u64, T)>>,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Main, Self::Express];

    /// The word used in status and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Express => "express",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Main => Self::Express,
            Self::Express => Self::Main,
        }
    }
}

impl Bounds {
    const fn of(&self, lane: Lane) -> (usize, usize) {
        match lane {
            Lane::Main => (self.length, self.per_client),
            Lane::Express => (self.express_length, self.express_length.div_ceil(4)),
        }
    }
}

impl Ticket {
    /// The lane it is for.
    pub(super) const fn lane(&self) -> Lane {
        self.lane
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { next: 0, main: Queue::default(), express: Queue::default(), turn: Lane::Express }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { length: 0, turns: VecDeque::new(), waiting: HashMap::new() }
    }
}

impl<T> Line<T> {
    /// How many wait in all.
    pub(super) const fn len(&self) -> usize {
        self.main.length.saturating_add(self.express.length)
    }

    /// How many wait in `lane`.
    pub(super) const fn waiting(&self, lane: Lane) -> usize {
        match lane {
            Lane::Main => self.main.length,
            Lane::Express => self.express.length,
        }
    }

    /// Lines up in `lane`. The express lane is a favour: who finds no room there stands in everybody's, so that a burst of
    /// logins or checks from one address is refused no sooner than any other burst.
    ///
    /// # Errors
    /// [`NoPlace`], as `lane` says it.
    pub(super) fn join(&mut self, lane: Lane, client: IpAddr, bounds: &Bounds, who: T) -> Result<Ticket, NoPlace> {
        let lane = match self.room(lane, client, bounds) {
            Ok(()) => lane,
            Err(_) if lane == Lane::Express && self.room(Lane::Main, client, bounds).is_ok() => Lane::Main,
            Err(none) => return Err(none),
        };
        let number = self.next;
        let queue = self.lane(lane);
        let theirs = queue.waiting.entry(client).or_default();
        if theirs.is_empty() {
            queue.turns.push_back(client);
        }
        theirs.push_back((number, who));
        queue.length = queue.length.saturating_add(1);
        self.next = self.next.wrapping_add(1);
        Ok(Ticket { lane, client, number })
    }

    /// Whether one more of `client` may stand in `lane`.
    fn room(&mut self, lane: Lane, client: IpAddr, bounds: &Bounds) -> Result<(), NoPlace> {
        let (most, per_client) = bounds.of(lane);
        let queue = self.lane(lane);
        let theirs = queue.waiting.get(&client).map_or(0, VecDeque::len);
        if queue.length >= most {
            return Err(NoPlace::Full);
        }
        // One may always stand there.
        if theirs > 0 && theirs >= per_client { Err(NoPlace::ClientFull) } else { Ok(()) }
    }

    /// Leaves the line; whoever was served has left already.
    pub(super) fn leave(&mut self, ticket: &Ticket) {
        let queue = self.lane(ticket.lane);
        let place = queue.waiting.get(&ticket.client).and_then(|theirs| {
            // Numbers grow along the line.
            theirs.binary_search_by_key(&ticket.number, |(number, _)| *number).ok()
        });
        if let Some(place) = place {
            drop(queue.remove(ticket.client, place));
        }
    }

    /// Serves in turn, as long as `serve` has something for somebody. What `serve` says is done leaves the line and is
    /// handed to `done`.
    pub(super) fn serve<S>(&mut self, mut serve: impl FnMut(&T) -> (Service, S), mut done: impl FnMut(T, S)) {
        loop {
            let (first, second) = (self.turn, self.turn.other());
            let (lane, served) = match self.lane(first).next(&mut serve) {
                Next::Nobody => (second, self.lane(second).next(&mut serve)),
                served => (first, served),
            };
            match served {
                Next::Done(who, what) => done(who, what),
                Next::Over | Next::Nobody => return,
            }
            self.turn = lane.other();
        }
    }

    const fn lane(&mut self, lane: Lane) -> &mut Queue<T> {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Express => &mut self.express,
        }
    }
}

/// Who is next in a lane.
enum Next<T, S> {
    Nobody,
    Over,
    Done(T, S),
}

impl<T> Queue<T> {
    /// The next one who can be served; its client goes to the end of the row.
    fn next<S>(&mut self, serve: &mut impl FnMut(&T) -> (Service, S)) -> Next<T, S> {
        let mut found = None;
        'clients: for (turn, client) in self.turns.iter().enumerate() {
            for (place, (_, who)) in self.waiting.get(client).into_iter().flatten().enumerate() {
                match serve(who) {
                    (Service::Over, _) => return Next::Over,
                    (Service::Skip, _) => {}
                    (Service::Done, what) => {
                        found = Some((turn, *client, place, what));
                        break 'clients;
                    }
                }
            }
        }
        let Some((turn, client, place, what)) = found else { return Next::Nobody };
        let Some(who) = self.remove(client, place) else { return Next::Nobody };
        // Still there, if it has more that wait.
        if self.turns.get(turn) == Some(&client)
            && let Some(client) = self.turns.remove(turn)
        {
            self.turns.push_back(client);
        }
        Next::Done(who, what)
    }

    fn remove(&mut self, client: IpAddr, place: usize) -> Option<T> {
        let theirs = self.waiting.get_mut(&client)?;
        let (_, who) = theirs.remove(place)?;
        self.length = self.length.saturating_sub(1);
        if theirs.is_empty() {
            self.waiting.remove(&client);
            self.turns.retain(|waiting| *waiting != client);
        }
        Some(who)
    }
}

#[cfg(test)]
mod tests;
