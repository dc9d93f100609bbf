//! HTTP/3 on the wire: frames, streams, field sections (RFC 9114, RFC 9204).
//!
//! Floor 2, pure: bytes in, values out. Used towards clients by `serve::h3`. What a client declares is never believed:
//! a frame's length is held against its bound before a byte of it is kept, content passes without being kept, and what
//! is unknown is skipped. Deliberately absent: QUIC, sockets, clocks; QPACK's dynamic table, whose capacity we announce
//! as zero, so that no stream ever waits for another and a section needs no memory beyond its own; server push.

mod code;
pub mod frame;
pub mod head;
pub mod message;
pub mod qpack;
pub mod unidirectional;

pub use code::{Code, Offence};
