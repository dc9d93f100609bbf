//! Why brokers do not do what they are asked, and what is to be done about it.

use std::fmt;

/// An error code of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal(i16);

/// What is to be done about a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Advice {
    /// Somebody else leads by now: ask who, and ask them.
    Elsewhere,
    /// It may be taken another time: the cluster is busy or broken, or set up wrongly, which somebody will mend.
    Later,
    /// It will never be taken as it is: the records themselves are what is wrong.
    Never,
}

impl Refusal {
    /// No common version.
    pub const UNSUPPORTED_VERSION: Self = Self(35);

    /// What a code says; 0 is none.
    pub const fn of(code: i16) -> Option<Self> {
        match code {
            0 => None,
            code => Some(Self(code)),
        }
    }

    /// What is to be done.
    pub const fn advice(self) -> Advice {
        self.entry().1
    }

    /// The protocol's name, and what is to be done. Names are those that a producer can meet.
    #[rustfmt::skip] // a table
    const fn entry(self) -> (&'static str, Advice) {
        match self.0 {
            2 => ("CORRUPT_MESSAGE", Advice::Later),
            3 => ("UNKNOWN_TOPIC_OR_PARTITION", Advice::Elsewhere),
            5 => ("LEADER_NOT_AVAILABLE", Advice::Elsewhere),
            6 => ("NOT_LEADER_OR_FOLLOWER", Advice::Elsewhere),
            7 => ("REQUEST_TIMED_OUT", Advice::Later),
            8 => ("BROKER_NOT_AVAILABLE", Advice::Elsewhere),
            10 => ("MESSAGE_TOO_LARGE", Advice::Never),
            13 => ("NETWORK_EXCEPTION", Advice::Later),
            17 => ("INVALID_TOPIC_EXCEPTION", Advice::Later),
            18 => ("RECORD_LIST_TOO_LARGE", Advice::Never),
            19 => ("NOT_ENOUGH_REPLICAS", Advice::Later),
            20 => ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", Advice::Later),
            29 => ("TOPIC_AUTHORIZATION_FAILED", Advice::Later),
            31 => ("CLUSTER_AUTHORIZATION_FAILED", Advice::Later),
            32 => ("INVALID_TIMESTAMP", Advice::Never),
            33 => ("UNSUPPORTED_SASL_MECHANISM", Advice::Later),
            34 => ("ILLEGAL_SASL_STATE", Advice::Later),
            35 => ("UNSUPPORTED_VERSION", Advice::Later),
            43 => ("UNSUPPORTED_FOR_MESSAGE_FORMAT", Advice::Later),
            44 => ("POLICY_VIOLATION", Advice::Later),
            56 => ("KAFKA_STORAGE_ERROR", Advice::Elsewhere),
            58 => ("SASL_AUTHENTICATION_FAILED", Advice::Later),
            74 => ("FENCED_LEADER_EPOCH", Advice::Elsewhere),
            76 => ("UNSUPPORTED_COMPRESSION_TYPE", Advice::Later),
            87 => ("INVALID_RECORD", Advice::Never),
            89 => ("THROTTLING_QUOTA_EXCEEDED", Advice::Later),
            _ => ("", Advice::Later),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry().0 {
            "" => write!(f, "error {}", self.0),
            name => f.write_str(name),
        }
    }
}
