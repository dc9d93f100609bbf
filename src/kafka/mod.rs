//! What a producer says to brokers of Kafka, and what it hears from them.
//!
//! Floor 2, pure. In: a question. Out: the [`ask`]ed frame; of an [`answer`]'s bytes what they say; the words of SCRAM
//! ([`scram`]); what a refusal means ([`Refusal`]). Only versions without "flexible" fields are spoken, which brokers have
//! since 0.11 and Kafka 4 keeps (KIP-896). Deliberately absent: sockets, and which broker is asked when, which are the
//! shipper's; the records themselves, which are `telemetry::parcel`'s.

pub mod answer;
pub mod ask;
mod refusal;
pub mod scram;

pub use refusal::{Advice, Refusal};

/// A kind of question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Api {
    /// Takes records.
    Produce,
    /// Who leads what.
    Metadata,
    /// By which mechanism somebody will say who they are.
    SaslHandshake,
    /// Which versions are understood.
    ApiVersions,
    /// Words of that mechanism.
    SaslAuthenticate,
}

impl Api {
    /// Its number on the wire.
    pub const fn key(self) -> i16 {
        match self {
            Self::Produce => 0,
            Self::Metadata => 3,
            Self::SaslHandshake => 17,
            Self::ApiVersions => 18,
            Self::SaslAuthenticate => 36,
        }
    }

    /// Its lowest and highest version that are spoken here.
    pub const fn spoken(self) -> (i16, i16) {
        match self {
            Self::Produce => (3, 8),
            Self::Metadata => (4, 4),
            Self::SaslHandshake => (1, 1),
            Self::ApiVersions => (0, 0),
            Self::SaslAuthenticate => (0, 1),
        }
    }
}
