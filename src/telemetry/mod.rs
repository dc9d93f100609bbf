//! Everything the process tells about itself: metric families, events, records.
//!
//! Floor 2. Deliberately absent: the tasks that ship records; they are in `control`.

pub mod access_log;
pub mod events;
pub mod format;
pub mod metrics;
pub mod parcel;
pub mod record;
pub mod recorder;
pub mod redact;
#[cfg(test)]
pub(crate) mod samples;
mod scan;
pub mod select;
pub mod slo;

pub use access_log::{AccessLog, Emitter};
pub use metrics::Metrics;
pub use record::{Attempt, End, Kind, Record, RecordId, Stages};
