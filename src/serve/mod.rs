//! Bytes of clients to requests, answers to bytes.
//!
//! Floor 6. Deliberately absent: what a request means; that is the [`Handler`](crate::message::Handler)'s.

pub mod gate;
pub mod h1;
pub mod h2;
pub mod h3;
mod pace;
pub mod quic;
mod streams;
pub mod tcp;
pub mod worker;

#[cfg(test)]
mod tests;
