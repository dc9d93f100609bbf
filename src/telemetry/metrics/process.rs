//! Figures of the process as a whole, under the names that Prometheus' client libraries have for them.
//!
//! Floor 2. Read from the system at each scrape. What cannot be read is left out; outside Linux that is nearly everything.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the system says about the process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Time on processors, of users and system together.
    pub(super) cpu: Option<Duration>,
    pub(super) open_fds: Option<u64>,
    /// `None` also where there is no limit.
    pub(super) max_fds: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) virtual_memory: Option<u64>,
    pub(super) resident_memory: Option<u64>,
}

impl Figures {
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let (threads, virtual_memory, pages) = stat_figures(&stat);
        let page = u64::try_from(rustix::param::page_size()).unwrap_or_default();
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = u64::try_from(spent.tv_sec).ok().zip(u32::try_from(spent.tv_nsec).ok());
        Self {
            cpu: cpu.map(|(seconds, nanos)| Duration::new(seconds, nanos)),
            // The listing itself is open while it is counted.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            threads,
            virtual_memory,
            resident_memory: pages.map(|pages| pages.saturating_mul(page)),
        }
    }
}

/// Threads, virtual bytes and resident pages. The second field is a name in parentheses, which may hold anything.
fn stat_figures(stat: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1; the third is the first here.
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse().ok());
    (field(20), field(23), field(24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_nothing() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 3 1 0 0 20 0 9 0 12345 987654 321 18446744073709551615";

        assert_eq!(stat_figures(stat), (Some(9), Some(987_654), Some(321)));
        assert_eq!(stat_figures(""), (None, None, None));
    }

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::read();

        assert!(figures.cpu.is_some() && figures.threads.is_some_and(|threads| threads > 0));
        assert!(figures.open_fds.zip(figures.max_fds).is_none_or(|(open, most)| 0 < open && open < most));
        assert!(
            figures.virtual_memory > figures.resident_memory
                && figures.resident_memory.is_some_and(|rss| rss > 1 << 20)
        );
    }
}
