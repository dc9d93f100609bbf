//! What must be true of a message's fields before it goes on.
//!
//! Floor 2, pure: field maps in, field maps out. Called by `pipeline`'s steps. Deliberately absent: framing fields,
//! which `h1` and `h2` write themselves, and any look at cookies.

mod forward;
mod hop;
mod host;
mod trace;

pub use forward::{Facts, edit, forward};
pub use hop::{BadConnection, strip_hop_by_hop};
pub use host::{BadHost, Host, host};
pub use trace::{made_request_id, made_traceparent, next_traceparent, valid_request_id};

#[cfg(test)]
mod tests;
