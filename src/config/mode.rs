//! Whether what decides on requests acts, or only says what it would do: rules, checks, limits and the login guard alike.

/// Whether a verdict acts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// It does.
    Enforce,
    /// It is logged and counted as if it did.
    Observe,
}

impl Mode {
    /// The word used in status: what has become of a request that it is about.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforced",
            Self::Observe => "observed",
        }
    }
}
