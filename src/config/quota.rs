//! `[bans]`: who misbehaved, and for how long that shuts them out.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

/// `[bans]`: how bans come about, grow and end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bans {
    /// Bans, and clients with points, remembered at once. Default 10,000; beyond it the ban that would end first goes.
    /// Needs a restart.
    pub max: usize,
    /// Points that a client may collect within `within`; one more is a ban. Default 20.
    pub points: NonZeroU32,
    /// The time in which that many points are forgiven. Default 10 min.
    pub within: Duration,
    /// Length of a first ban. Default 5 min.
    pub first: Duration,
    /// By how much each further one is longer. Default 4.
    pub growth: u32,
    /// Longest ban. Default 24 h.
    pub longest: Duration,
    /// How long after its end a ban still makes the next one longer. Default 24 h.
    pub remembered: Duration,
    /// Networks that are never banned. Default none.
    pub never: Vec<IpNet>,
}
