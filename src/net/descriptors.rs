//! How many sockets and files the process may have open, and how many of them clients may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process itself keeps open: listeners, logs, the runtimes' own.
const OWN: u64 = 32;

/// Raises the soft limit on open files to the hard one; the limit from then on, or `None` when there is none.
///
/// The soft one is low for the sake of programs that use `select`, which no runtime of ours does.
pub fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// Client connections, of the `wanted` ones, that leave room under `limit`.
///
/// Half of what is there: an exchange may need as much again, a connection to an endpoint or a file for its body. A
/// connection that waits in the kernel is served later; an exchange without a descriptor is lost.
pub fn for_clients(wanted: usize, limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return wanted };
    let half = usize::try_from(limit.saturating_sub(OWN) / 2).unwrap_or(usize::MAX);
    wanted.min(half).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_half_of_a_small_limit_and_all_they_want_of_a_large_one() {
        assert_eq!(for_clients(20_000, Some(160)), 64);
        assert_eq!(for_clients(20_000, Some(1_048_576)), 20_000);
        assert_eq!(for_clients(20_000, None), 20_000);
        assert_eq!(for_clients(20_000, Some(3)), 1);
    }

    #[test]
    fn raised_limit_is_the_hard_one() {
        let limit = raise();

        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, limit), (now.maximum, now.maximum));
    }
}
