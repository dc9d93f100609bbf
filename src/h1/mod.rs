//! HTTP/1 on the wire: heads, framing, chunks (RFC 9112).
//!
//! Floor 2, pure: bytes in, values out, nothing is read or written here. Used towards clients by `serve::h1` and
//! towards endpoints by `upstream::h1`. Strict in what it accepts: what could be read in two ways is an error, never
//! repaired, since the reader behind us might choose the other way. Deliberately absent: sockets, clocks, semantics
//! of fields beyond framing.

pub mod chunked;
pub mod decode;
pub mod encode;
pub mod framing;
pub mod head;
mod scan;

pub use decode::{Decoded, Decoder};
pub use framing::Framing;
pub use head::{HeadLimits, MalformedResponse, RequestHead, ResponseHead};
pub use scan::HeadScan;
