//! Operators' drains: keeps the orders and makes the endpoints obey them.
//!
//! Floor 5. In: orders, and the endpoints of the present generation. Out: the `drained` mark in each endpoint's vitals,
//! and one call of the [`Observer`] for each change. Orders live as long as the process: a reload keeps them, and an
//! endpoint that comes later obeys those that name it or its zone. Deliberately absent: waiting for what is under way;
//! whoever wants to know looks at the in-flight counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Pools;
use super::supervisor::Stop;
use crate::balance::Endpoint;
use crate::balance::drain::{MOST_ORDERS, Order, Orders, Target};
use crate::lexicon::PoolName;

/// Longest sleep between two looks at the orders; a changed clock is noticed by then.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Hears of what orders did. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// An endpoint was taken out, or put back.
    fn drained(&self, pool: &PoolName, endpoint: &Endpoint, out: bool);

    /// An order ended by itself.
    fn expired(&self, target: &Target);

    /// Everything obeys: who waits in a queue may have somebody to ask now, or nobody any more.
    fn settled(&self);
}

/// Why an order was not taken.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Nothing of that name.
    #[error("there is no {0}")]
    Unknown(Target),
    /// It is not out.
    #[error("{0} is not drained by an order of its own")]
    NotDrained(Target),
    /// A pool would have nobody left.
    #[error("pool {0} would have no endpoint left")]
    Last(PoolName),
    /// Too many orders.
    #[error("{MOST_ORDERS} drains stand already")]
    Full,
}

/// The orders, and whom they are about. Shared by the admin listener and its own task.
pub struct Drains {
    orders: Mutex<Orders>,
    pools: Arc<dyn Pools>,
    observer: Arc<dyn Observer>,
    clock: fn() -> u64,
    changed: Notify,
}

impl std::fmt::Debug for Drains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drains").field("orders", &self.orders).finish_non_exhaustive()
    }
}

impl Drains {
    /// No orders yet. `clock` in milliseconds since any fixed point.
    pub fn new(pools: Arc<dyn Pools>, observer: Arc<dyn Observer>, clock: fn() -> u64) -> Self {
        Self { orders: Mutex::default(), pools, observer, clock, changed: Notify::new() }
    }

    /// Takes `target` out, for a while or until it is put back. What is under way there goes on.
    ///
    /// # Errors
    /// When nothing has that name, when there are too many orders, or, without `even_the_last`, when a pool that has
    /// somebody would have nobody.
    pub fn drain(&self, target: Target, lasting: Option<Duration>, even_the_last: bool) -> Result<(), Refused> {
        if !self.knows(&target) {
            return Err(Refused::Unknown(target));
        }
        let mut orders = self.lock();
        let mut wanted = orders.clone();
        let millis = lasting.map(|lasting| u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX));
        let until = millis.map(|millis| (self.clock)().saturating_add(millis));
        if !wanted.put(Order { target, until }) {
            return Err(Refused::Full);
        }
        if !even_the_last && let Some(pool) = self.emptied(&orders, &wanted) {
            return Err(Refused::Last(pool));
        }
        *orders = wanted;
        drop(orders);
        self.obey();
        self.changed.notify_one();
        Ok(())
    }

    /// Puts `target` back.
    ///
    /// # Errors
    /// When no order is about exactly this.
    pub fn undrain(&self, target: Target) -> Result<(), Refused> {
        if !self.lock().take_back(&target) {
            return Err(if self.knows(&target) { Refused::NotDrained(target) } else { Refused::Unknown(target) });
        }
        self.obey();
        Ok(())
    }

    /// The orders that stand, and how long each still does.
    pub fn standing(&self) -> Vec<(Target, Option<Duration>)> {
        let now = (self.clock)();
        let left = |order: &Order| order.until.map(|until| Duration::from_millis(until.saturating_sub(now)));
        self.lock().iter().map(|order| (order.target.clone(), left(order))).collect()
    }

    /// Makes every endpoint obey; also to be called when endpoints came.
    pub fn obey(&self) {
        let orders = self.lock();
        self.pools.each(&mut |pool, endpoint, _| {
            let out = orders.cover(&pool.name, &endpoint.name, endpoint.zone.as_ref());
            if endpoint.vitals.is_drained() != out {
                endpoint.vitals.set_drained(out);
                self.observer.drained(&pool.name, endpoint, out);
            }
        });
        drop(orders);
        self.observer.settled();
    }

    /// Ends what has an end, until stopped.
    pub async fn run(self: Arc<Self>, mut stop: Stop) {
        loop {
            let ended = self.lock().expire((self.clock)());
            if !ended.is_empty() {
                ended.iter().for_each(|target| self.observer.expired(target));
                self.obey();
            }
            let next = self.lock().next_end();
            let left = next.map(|at| Duration::from_millis(at.saturating_sub((self.clock)()).max(1)));
            tokio::select! {
                () = stop.stopped() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Whether an endpoint, at this moment, is what `target` speaks of.
    fn knows(&self, target: &Target) -> bool {
        let mut known = false;
        self.pools.each(&mut |pool, endpoint, _| {
            known |= target.covers(&pool.name, &endpoint.name, endpoint.zone.as_ref());
        });
        known
    }

    /// A pool that has somebody now and would have nobody.
    fn emptied(&self, now: &Orders, then: &Orders) -> Option<PoolName> {
        let mut left: Vec<(PoolName, u32, u32)> = Vec::new();
        self.pools.each(&mut |pool, endpoint, _| {
            if left.last().is_none_or(|(name, ..)| *name != pool.name) {
                left.push((pool.name.clone(), 0, 0));
            }
            let serves = |orders: &Orders| {
                u32::from(!endpoint.disabled && !orders.cover(&pool.name, &endpoint.name, endpoint.zone.as_ref()))
            };
            if let Some((_, before, after)) = left.last_mut() {
                *before = before.saturating_add(serves(now));
                *after = after.saturating_add(serves(then));
            }
        });
        left.into_iter().find(|(_, before, after)| *before > 0 && *after == 0).map(|(name, ..)| name)
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
