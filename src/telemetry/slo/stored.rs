//! Meters as a text that outlives the process.
//!
//! The first line names format, version and checksum; the rest is JSON. What does not check is refused as a whole: half a
//! past would be believed.

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::ring::Ring;
use super::{DAY, Meter, PLACES, Places, Tally};
use crate::lexicon::PoolName;

/// Version of the format.
pub const VERSION: u32 = 1;

/// What stands before the version.
const FORMAT: &str = "sluicegate-objectives";

/// Why a text is no past to go on from.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Broken {
    /// Not written by this program.
    #[error("is no file of objectives")]
    Format,
    /// Written by another version.
    #[error("has version {0}, which this program does not read")]
    Version(String),
    /// Changed since it was written, or written in part.
    #[error("does not match its checksum")]
    Checksum,
    /// The checksum is right and the content is not.
    #[error("cannot be read: {0}")]
    Content(String),
}

/// The meters of all pools, by name.
#[derive(Debug, Default)]
pub struct Stored(pub BTreeMap<PoolName, Meter>);

/// A meter as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    hour: Vec<Row>,
    six_hours: Vec<Row>,
    period: Vec<Row>,
    endpoints: BTreeMap<String, WrittenPlace>,
    zones: BTreeMap<String, WrittenPlace>,
}

/// Zone; number of the day and failures.
type WrittenPlace = (Option<String>, Vec<(u64, u64)>);

/// Number of the stretch; counted, slow; client, proxy, endpoint, zone; observed, down.
type Row = (u64, u64, u64, [u64; 4], u64, u64);

impl Stored {
    /// The text of meters.
    pub fn encode<'a>(meters: impl IntoIterator<Item = (&'a PoolName, &'a Meter)>) -> String {
        let pools: BTreeMap<&str, Written> =
            meters.into_iter().map(|(name, meter)| (name.as_str(), written(meter))).collect();
        // Numbers and texts by names: nothing that JSON cannot say.
        let content = serde_json::to_string(&pools).unwrap_or_default();
        format!("{FORMAT} {VERSION} {:016x}\n{content}\n", checksum(&content))
    }

    /// The meters of a text.
    ///
    /// # Errors
    /// When it is not, in whole, what this version wrote.
    pub fn decode(text: &str) -> Result<Self, Broken> {
        let (head, content) = text.split_once('\n').ok_or(Broken::Format)?;
        let mut words = head.split(' ');
        if words.next() != Some(FORMAT) {
            return Err(Broken::Format);
        }
        let version = words.next().unwrap_or_default();
        if version != VERSION.to_string() {
            return Err(Broken::Version(version.chars().take(16).collect()));
        }
        let content = content.strip_suffix('\n').ok_or(Broken::Checksum)?;
        if words.next() != Some(format!("{:016x}", checksum(content)).as_str()) || words.next().is_some() {
            return Err(Broken::Checksum);
        }
        let pools: BTreeMap<String, Written> =
            serde_json::from_str(content).map_err(|error| Broken::Content(error.to_string()))?;
        Ok(Self(pools.into_iter().map(|(name, written)| (PoolName::new(&name), read(written))).collect()))
    }
}

fn written(meter: &Meter) -> Written {
    let rows = |ring: &Ring<Tally>| {
        let row = |(number, tally): (u64, Tally)| {
            (number, tally.counted, tally.slow, tally.failed, tally.observed, tally.down)
        };
        ring.filled().map(row).collect()
    };
    let places = |places: &Places| {
        let place = |(name, (zone, days)): (&String, &(Option<String>, Ring<u64>))| {
            (name.clone(), (zone.clone(), days.filled().collect()))
        };
        places.iter().map(place).collect()
    };
    Written {
        hour: rows(&meter.hour),
        six_hours: rows(&meter.six_hours),
        period: rows(&meter.period),
        endpoints: places(&meter.endpoints),
        zones: places(&meter.zones),
    }
}

fn read(written: Written) -> Meter {
    let fill = |ring: &mut Ring<Tally>, rows: Vec<Row>| {
        for (number, counted, slow, failed, observed, down) in rows {
            ring.put(number, Tally { counted, slow, failed, observed, down });
        }
    };
    let places = |written: BTreeMap<String, WrittenPlace>| {
        let place = |(name, (zone, rows)): (String, WrittenPlace)| {
            let mut days = Ring::new(DAY, 30);
            rows.into_iter().for_each(|(number, count)| days.put(number, count));
            (name, (zone, days))
        };
        written.into_iter().take(PLACES).map(place).collect()
    };
    let mut meter = Meter::default();
    fill(&mut meter.hour, written.hour);
    fill(&mut meter.six_hours, written.six_hours);
    fill(&mut meter.period, written.period);
    meter.endpoints = places(written.endpoints);
    meter.zones = places(written.zones);
    meter
}

/// The same in every build.
fn checksum(content: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(content.as_bytes());
    hasher.finish()
}
