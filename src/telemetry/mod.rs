//! Everything the process tells about itself: metric families, events, records.
//!
//! Floor 2. Deliberately absent: the tasks that ship records; they are in `control`.

pub mod record;

pub use record::{Attempt, End, Kind, Record, Stages};
