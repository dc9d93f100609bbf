//! What clients may have, over time and at once.
//!
//! Floor 2, pure: `now` is an argument, nanoseconds on a clock of the process. Everything that a client can fill has
//! a bound: [`Clients`] counts connections and tunnels, [`Rate`] and [`Concurrency`] requests by any key,
//! [`Bans`] remembers who misbehaved. Rates and counts live in a [`Table`] of atomic cells that no request waits for.
//! Deliberately absent: which request counts for what, and what is done to a client that has enough.

mod bans;
mod clients;
mod concurrency;
mod key;
pub mod login;
mod rate;
mod table;

pub use bans::{Ban, Bans, Offence, Scope, Subject};
pub use clients::{Clients, Permit, Share};
pub use concurrency::{Concurrency, Place};
pub use key::{Key, Keyring, Making, prefix_of};
pub use rate::{Decision, Meter, Rate};
pub use table::{Table, Whose};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;
