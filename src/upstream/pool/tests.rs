//! Leases and the line for them, over real tasks and threads.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Config;

fn configured(endpoints: &str, cap: u32, queue: usize, timeout: &str) -> Arc<config::Pool> {
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nendpoints = [{endpoints}]\nmax_in_flight = {cap}\n\
         health = false\nqueue = {{ length = {queue}, per_client = {each}, timeout = \"{timeout}\" }}\n",
        each = queue.max(1),
    );
    let loaded = Config::parse(&text, "p.toml".as_ref()).unwrap_or_else(|findings| panic!("{findings}"));
    Arc::clone(&loaded.config.pools[0])
}

fn pool(endpoints: &str, cap: u32, queue: usize) -> Pool {
    Pool::new(configured(endpoints, cap, queue, "10s"), None, None)
}

const TWO: &str = "\"10.0.0.1:1\", \"10.0.0.2:1\"";
const ONE: &str = "\"10.0.0.1:1\"";

/// What somebody wants, after those it has tried.
pub(crate) fn wish(tried: &[EndpointId]) -> Wish<'_> {
    let client = IpAddr::from([10, 9, 9, 9]);
    Wish { kind: ClaimKind::Exchange, tried, expendable: true, client, path: "/", until: None }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Lease, NoLease>> + 'a>>;

fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<Lease, NoLease>> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn in_flight(pool: &Pool) -> u32 {
    pool.roster().endpoints().iter().map(|endpoint| endpoint.vitals.in_flight()).sum()
}

#[tokio::test(start_paused = true)]
async fn freed_slot_goes_to_who_waited_longest() {
    let pool = pool(ONE, 1, 8);
    let held = pool.lease(wish(&[])).await.unwrap();
    let mut first: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    let mut second: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());

    drop(held);

    assert!(poll(&mut second).is_pending(), "the second overtook the first");
    let Poll::Ready(Ok(lease)) = poll(&mut first) else { panic!("not served") };
    let mut newcomer: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut newcomer).is_pending());
    drop(lease);
    assert!(poll(&mut newcomer).is_pending(), "a newcomer overtook who waited");
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn line_is_bounded_and_waiting_ends() {
    let pool = Pool::new(configured(ONE, 1, 1, "250ms"), None, None);
    let _held = pool.lease(wish(&[])).await.unwrap();
    let mut waiting: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut waiting).is_pending());

    assert_eq!(pool.lease(wish(&[])).await.unwrap_err(), NoLease::QueueFull);
    let began = Instant::now();
    assert_eq!(waiting.await.unwrap_err(), NoLease::QueueLate);
    assert_eq!(began.elapsed().as_millis(), 250);
    assert_eq!(pool.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn slot_that_comes_too_late_is_handed_on() {
    let pool = pool(ONE, 1, 8);
    let held = pool.lease(wish(&[])).await.unwrap();
    let mut gone: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    let mut next: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut gone).is_pending() && poll(&mut next).is_pending());

    drop(held);
    drop(gone);

    assert!(matches!(poll(&mut next), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn second_attempt_at_the_front_does_not_hold_up_who_can_be_served() {
    let pool = pool(TWO, 1, 8);
    let hanging = pool.lease(wish(&[])).await.unwrap();
    let other = pool.lease(wish(&[])).await.unwrap();
    let tried = [other.endpoint().id];
    let mut again: Waiting<'_> = Box::pin(pool.lease(wish(&tried)));
    let mut behind: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut again).is_pending() && poll(&mut behind).is_pending());

    drop(other);

    assert!(poll(&mut again).is_pending());
    let Poll::Ready(Ok(lease)) = poll(&mut behind) else { panic!("held up") };
    assert_eq!(lease.endpoint().id, tried[0]);
    drop(hanging);
    assert!(matches!(poll(&mut again), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_that_nobody_is_left() {
    let pool = Pool::new(configured(ONE, 1, 8, "10s"), None, None);
    let held = pool.lease(wish(&[])).await.unwrap();
    let mut waiting: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut waiting).is_pending());

    held.endpoint().vitals.set_drained(true);
    pool.pump();

    assert!(matches!(poll(&mut waiting), Poll::Ready(Err(NoLease::NoneUp))));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_by_the_next_generation() {
    let pool = Pool::new(configured(ONE, 1, 8, "10s"), None, None);
    let _held = pool.lease(wish(&[])).await.unwrap();
    let mut waiting: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut waiting).is_pending());

    let next = Pool::new(configured(TWO, 1, 8, "10s"), None, Some(&pool));
    next.pump();

    let Poll::Ready(Ok(lease)) = poll(&mut waiting) else { panic!("not served") };
    assert_eq!(lease.endpoint().host, "10.0.0.2");
    assert_eq!(next.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn tunnels_do_not_wait_and_free_their_exchange_slot() {
    let pool = pool(ONE, 1, 8);
    let exchange = pool.lease(wish(&[])).await.unwrap();
    let mut waiting: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
    assert!(poll(&mut waiting).is_pending());

    let tunnel = exchange.into_tunnel(1).unwrap();

    assert!(matches!(poll(&mut waiting), Poll::Ready(Ok(_))));
    assert_eq!(tunnel.endpoint().vitals.tunnels(), 1);
}

/// Many workers lease, wait, give up and give back; at the end every slot is free, and nobody was ever forgotten.
#[test]
fn no_wake_up_is_lost_and_no_slot_either() {
    const WORKERS: usize = 4;
    const TASKS: usize = 24;
    const ROUNDS: usize = 60;
    let pool = Arc::new(Pool::new(configured(TWO, 2, 1_000, "30s"), None, None));
    let (most, served) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let task = async |pool: Arc<Pool>, most: Arc<AtomicU32>, served: Arc<AtomicU32>| {
        for round in 0..ROUNDS {
            let lease = pool.lease(wish(&[]));
            if fastrand::u8(..) < 64 {
                // A client that goes away while it waits, at whatever moment.
                let patience = Duration::from_micros(fastrand::u64(..200));
                drop(tokio::time::timeout(patience, lease).await);
                continue;
            }
            let lease = lease.await.expect("thirty seconds are enough for everybody");
            most.fetch_max(lease.endpoint().vitals.in_flight(), Ordering::Relaxed);
            for _ in 0..round % 4 {
                tokio::task::yield_now().await;
            }
            served.fetch_add(1, Ordering::Relaxed);
            drop(lease);
        }
    };

    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let mut tasks = tokio::task::JoinSet::new();
                    for _ in 0..TASKS {
                        tasks.spawn(task(Arc::clone(&pool), Arc::clone(&most), Arc::clone(&served)));
                    }
                    while let Some(ended) = tasks.join_next().await {
                        ended.unwrap();
                    }
                });
            });
        }
    });

    assert!(most.load(Ordering::Relaxed) <= 2, "beyond the cap");
    assert!(served.load(Ordering::Relaxed) > 0);
    assert_eq!((in_flight(&pool), pool.waiting()), (0, 0));
}

proptest! {
    /// The line against a model of it: who is served next, and how much is carried, at every step.
    #[test]
    fn line_behaves_as_a_line(steps in prop::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let pool = pool(TWO, 2, 6);
        let mut held: Vec<Lease> = Vec::new();
        let mut line: VecDeque<Waiting<'_>> = VecDeque::new();
        for (step, index) in steps {
            match step {
                // Somebody comes.
                0 | 1 => {
                    let mut coming: Waiting<'_> = Box::pin(pool.lease(wish(&[])));
                    match poll(&mut coming) {
                        Poll::Ready(Ok(lease)) => {
                            prop_assert!(line.is_empty() && held.len() < 4);
                            held.push(lease);
                        }
                        Poll::Ready(Err(none)) => {
                            prop_assert_eq!((none, held.len(), line.len()), (NoLease::QueueFull, 4, 6));
                        }
                        Poll::Pending => {
                            prop_assert_eq!(held.len(), 4);
                            line.push_back(coming);
                        }
                    }
                }
                // Somebody is done; whoever waited longest is served, and nobody else.
                2 if !held.is_empty() => {
                    drop(held.swap_remove(index.index(held.len())));
                    for waiting in line.iter_mut().skip(1) {
                        prop_assert!(poll(waiting).is_pending());
                    }
                    if let Some(mut first) = line.pop_front() {
                        let Poll::Ready(Ok(lease)) = poll(&mut first) else { panic!("a slot was lost") };
                        held.push(lease);
                    }
                }
                // Somebody who waits goes away.
                3 if !line.is_empty() => drop(line.remove(index.index(line.len()))),
                _ => {}
            }
            prop_assert_eq!(in_flight(&pool) as usize, held.len());
            prop_assert_eq!(pool.waiting(), line.len());
        }
    }
}
