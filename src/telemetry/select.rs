//! Which records a sink gets.
//!
//! Floor 2, pure. Sampling goes by the record's number, so that all sinks with one share get the same records.

use std::time::Duration;

use super::record::{End, Record};
use crate::config::sink::Select;

/// Whether the sink gets `record`.
pub fn wants(select: &Select, record: &Record) -> bool {
    passes(select, record) && (is_sampled(select.sample, record) || keeps(select.slow, record))
}

fn passes(select: &Select, record: &Record) -> bool {
    let status = record.status.unwrap_or_default();
    let statuses = &select.statuses;
    (statuses.is_empty() || statuses.iter().any(|(first, last)| (*first..=*last).contains(&status)))
        && (select.routes.is_empty() || record.route.as_ref().is_some_and(|route| select.routes.contains(route)))
        && record.stages.total >= select.slower_than
        && (!select.verdicts || !record.verdicts.is_empty() || !record.limits.is_empty())
}

/// Errors and slow ones are never left out.
fn keeps(slow: Duration, record: &Record) -> bool {
    record.status.is_none_or(|status| status >= 400)
        || record.fault.is_some()
        || record.end != End::COMPLETE
        || record.stages.total >= slow
}

fn is_sampled(share: u32, record: &Record) -> bool {
    // Fibonacci hashing spreads numbers that follow each other evenly.
    let spread = record.id.parts().1.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    (spread * 1_000_000) >> 32 < u64::from(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::RouteName;
    use crate::telemetry::record::RecordId;
    use crate::telemetry::samples;

    fn all() -> Select {
        Select {
            statuses: Vec::new(),
            routes: Vec::new(),
            slower_than: Duration::ZERO,
            verdicts: false,
            sample: 1_000_000,
            slow: Duration::from_secs(10),
        }
    }

    fn plain() -> Record {
        Record { verdicts: Vec::new(), limits: Vec::new(), ..samples::exchange() }
    }

    #[test]
    fn all_conditions_of_a_filter_must_hold() {
        let record = samples::exchange();
        let takes = |select: Select| wants(&select, &record);

        assert!(takes(all()));
        assert!(takes(Select { statuses: vec![(400, 499), (200, 200)], ..all() }));
        assert!(!takes(Select { statuses: vec![(400, 599)], ..all() }));
        assert!(!takes(Select { statuses: vec![(0, 0)], ..all() }));
        assert!(takes(Select { routes: vec![RouteName::new("/")], ..all() }));
        assert!(!takes(Select { routes: vec![RouteName::new("/api")], ..all() }));
        assert!(!takes(Select { slower_than: Duration::from_secs(2), ..all() }));
        assert!(takes(Select { verdicts: true, ..all() }));
        assert!(!wants(&Select { verdicts: true, ..all() }, &plain()));
        assert!(wants(&Select { statuses: vec![(0, 0)], ..all() }, &Record { status: None, ..plain() }));
    }

    #[test]
    fn a_sample_has_its_share_and_every_error_and_slow_exchange() {
        let select = Select { sample: 100_000, ..all() };
        let mut id = RecordId::first();
        let mut records: Vec<Record> = (0..10_000).map(|_| Record { id: id.take(), ..plain() }).collect();

        let taken = records.iter().filter(|record| wants(&select, record)).count();
        assert!((950..1_050).contains(&taken), "{taken}");

        for (at, record) in records.iter_mut().enumerate() {
            match at % 3 {
                0 => record.status = Some(502),
                1 => record.stages.total = Duration::from_secs(11),
                _ => record.status = None,
            }
        }
        assert!(records.iter().all(|record| wants(&select, record)));
        assert!(records.iter().all(|record| wants(&Select { sample: 0, ..all() }, record)));
    }
}
