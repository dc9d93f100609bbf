//! The time of a turn.
//!
//! Floor 0. Between two waits a connection's task runs for some microseconds, in which a dozen places want to know the time: to
//! arm a clock, to stamp a record, to count on a limit. Within [`Turns`] whoever asks first reads the clock, and the others
//! are told the same; each step of an exchange begins anew ([`begin`]), so that what an exchange took is not that of others
//! on its connection. Elsewhere [`now`] is the present moment. Deliberately absent: waiting. What loops until a moment has
//! come must read the clock itself, since a turn's time stands still.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Instant;

/// What a thread knows of the time.
#[derive(Clone, Copy)]
enum Known {
    /// No turn is under way.
    Outside,
    /// Nobody has asked yet.
    Unasked,
    At(Instant),
}

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(Known::Outside) };
}

/// The time of the turn, or the present moment outside of one.
pub fn now() -> Instant {
    match KNOWN.get() {
        Known::At(at) => at,
        Known::Unasked => {
            let at = Instant::now();
            KNOWN.set(Known::At(at));
            at
        }
        Known::Outside => Instant::now(),
    }
}

/// Another step begins, if a turn is under way: the clock is read anew for who asks next.
pub fn begin() {
    if matches!(KNOWN.get(), Known::At(_)) {
        KNOWN.set(Known::Unasked);
    }
}

/// A future each poll of which is a turn.
#[derive(Debug)]
pub struct Turns<F>(pub F);

impl<F: Future + Unpin> Future for Turns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = Turn::start();
        Pin::new(&mut self.0).poll(cx)
    }
}

/// A turn under way; over when it is dropped, also by a panic.
struct Turn;

impl Turn {
    fn start() -> Self {
        KNOWN.set(Known::Unasked);
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        KNOWN.set(Known::Outside);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(1);

    /// `now`, before and after some time.
    fn twice() -> [Instant; 2] {
        let first = now();
        while Instant::now() < first + PAUSE {
            std::hint::spin_loop();
        }
        [first, now()]
    }

    #[tokio::test]
    async fn time_stands_still_in_a_turn_and_nowhere_else() {
        let [first, second] = twice();
        assert!(second >= first + PAUSE);

        let [third, fourth] = Turns(Box::pin(async { twice() })).await;
        assert!(third >= second && third == fourth);

        let [fifth, sixth] = twice();
        assert!(fifth >= fourth + PAUSE && sixth >= fifth + PAUSE);
    }

    #[tokio::test]
    async fn time_goes_on_with_each_turn_and_each_step() {
        let mut seen = Vec::new();
        let mut turns = Turns(Box::pin(poll_fn(|cx| {
            seen.push(twice());
            begin();
            seen.push(twice());
            cx.waker().wake_by_ref();
            if seen.len() < 4 { Poll::Pending } else { Poll::Ready(()) }
        })));
        (&mut turns).await;
        drop(turns);

        assert_eq!(seen.len(), 4);
        assert!(seen.windows(2).all(|pair| pair[1][0] >= pair[0][0] + PAUSE), "{seen:?}");
        assert!(seen.iter().all(|[first, second]| first == second));
    }

    #[test]
    fn panic_ends_its_turn() {
        let caught = std::panic::catch_unwind(|| {
            let _turn = Turn::start();
            panic!("on purpose");
        });

        assert!(caught.is_err() && matches!(KNOWN.get(), Known::Outside));
    }
}
