//! Exchanges that wait for a free endpoint.
//!
//! The lock is taken only while somebody waits. A freed slot goes to whose turn it is ([`Line`]): newcomers line up
//! behind as long as anybody waits.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::balance::{Ask, Claim, EndpointId, Pick};

use super::line::{Bounds, Lane, Line, NoPlace, Service, Ticket};

/// Waiting exchanges of one pool, over all workers.
#[derive(Debug, Default)]
pub struct Queue {
    length: AtomicUsize,
    line: Mutex<Line<Waiter>>,
    main: Counts,
    express: Counts,
}

#[derive(Debug)]
struct Waiter {
    tried: Vec<EndpointId>,
    expendable: bool,
    call: oneshot::Sender<Claim>,
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// With an endpoint.
    Served,
    /// The queue's clock ran out.
    Late,
    /// The client went away.
    Left,
    /// Nobody was left to wait for.
    NoneUp,
    /// It did not begin: as many waited as may.
    Full,
    /// It did not begin: as many of this client waited as may.
    ClientFull,
}

/// Endings so far.
#[derive(Debug, Default)]
struct Counts([AtomicU64; Ending::ALL.len()]);

/// A ticket for the line, and the call to come.
pub(super) type Place = (Ticket, oneshot::Receiver<Claim>);

impl Ending {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Served, Self::Late, Self::Left, Self::NoneUp, Self::Full, Self::ClientFull];

    /// The word used in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Late => "late",
            Self::Left => "left",
            Self::NoneUp => "none_up",
            Self::Full => "full",
            Self::ClientFull => "client_full",
        }
    }
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// How many wait in `lane`. Takes the lock.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lock().waiting(lane)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often waiting in `lane` ended so.
    pub fn ended(&self, lane: Lane, ending: Ending) -> u64 {
        self.counts(lane).0.get(ending as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Lines up. The caller pumps afterwards: a slot may have become free meanwhile.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub(super) fn join(&self, ask: &Ask<'_>, lane: Lane, client: IpAddr, bounds: &Bounds) -> Result<Place, NoPlace> {
        let (call, called) = oneshot::channel();
        let waiter = Waiter { tried: ask.tried.to_vec(), expendable: ask.expendable, call };
        let mut line = self.lock();
        let joined = line.join(lane, client, bounds, waiter);
        self.count(&line);
        drop(line);
        let ticket = joined.inspect_err(|none| {
            self.note(
                lane,
                match none {
                    NoPlace::Full => Ending::Full,
                    NoPlace::ClientFull => Ending::ClientFull,
                },
            );
        })?;
        // Pairs with the fence of `is_awaited`: either we see the freed slot, or who frees it sees us.
        fence(Ordering::SeqCst);
        Ok((ticket, called))
    }

    /// Leaves the line.
    pub(super) fn leave(&self, ticket: &Ticket, ending: Ending) {
        let mut line = self.lock();
        line.leave(ticket);
        self.count(&line);
        drop(line);
        self.note(ticket.lane(), ending);
    }

    /// Whether anybody waits, asked after a slot was freed.
    pub(super) fn is_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.length.load(Ordering::Relaxed) > 0
    }

    /// Serves those who wait, in turn, as long as `pick` finds a free slot. Who waits for a second attempt cannot use
    /// every slot: those behind are served meanwhile, or one hanging endpoint would hold up all the others.
    pub(super) fn pump(&self, mut pick: impl FnMut(&Ask<'_>) -> Pick) {
        let mut line = self.lock();
        let serve = |waiter: &Waiter| match pick(&Ask { tried: &waiter.tried, expendable: waiter.expendable }) {
            Pick::Full if waiter.tried.is_empty() => (Service::Over, None),
            Pick::Full => (Service::Skip, None),
            Pick::Claimed(claim) => (Service::Done, Some(claim)),
            // Nothing to wait for: the caller hears of it by the dropped sender.
            Pick::NoneUp | Pick::NoneUntried => (Service::Done, None),
        };
        line.serve(serve, |waiter, claim| {
            if let Some(claim) = claim {
                // Whoever left in this moment gives the claim back by dropping it; the next one gets it.
                drop(waiter.call.send(claim));
            }
        });
        self.count(&line);
    }

    fn count(&self, line: &Line<Waiter>) {
        self.length.store(line.len(), Ordering::Relaxed);
    }

    fn note(&self, lane: Lane, ending: Ending) {
        if let Some(count) = self.counts(lane).0.get(ending as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    const fn counts(&self, lane: Lane) -> &Counts {
        match lane {
            Lane::Main => &self.main,
            Lane::Express => &self.express,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line<Waiter>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
