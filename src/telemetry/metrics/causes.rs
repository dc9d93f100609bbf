//! The closed lists of causes and results that label values come from.
//!
//! Floor 2. A new member is one line here and appears in the exposition by itself.

/// A closed list of label values.
pub trait Cause: Copy + Eq + Send + Sync + 'static {
    /// Every member, in order.
    const ALL: &'static [Self];

    /// The label value.
    fn as_str(self) -> &'static str;

    /// Place in [`Cause::ALL`].
    fn index(self) -> usize;
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name { $($(#[$member_doc])* $member,)* }

        impl $name {
            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$member => $word,)* }
            }
        }

        impl $crate::telemetry::metrics::Cause for $name {
            const ALL: &'static [Self] = &[$(Self::$member,)*];

            fn as_str(self) -> &'static str {
                Self::as_str(self)
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

pub(super) use causes;

causes! {
    /// Why a client's connection was closed right after accept.
    ConnectionRefusal {
        /// The listener's cap is reached.
        ListenerFull = "listener_full",
        /// The client's cap is reached.
        ClientFull = "client_full",
        /// The PROXY protocol header was missing, malformed or late.
        ProxyHeader = "proxy_header",
        /// The process is draining.
        Draining = "draining",
    }
    /// Why a TLS handshake did not complete.
    HandshakeFailure {
        /// The handshake clock ran out.
        Timeout = "timeout",
        /// The client closed or reset the connection.
        Gone = "gone",
        /// The bytes were not TLS.
        NotTls = "not_tls",
        /// No protocol version, cipher suite, group or ALPN in common.
        NothingInCommon = "nothing_in_common",
        /// A client certificate was missing or not accepted.
        ClientCertificate = "client_certificate",
        /// The client sent an alert, most often because it does not trust our certificate.
        Alert = "alert",
        /// Anything else.
        Other = "other",
    }
    /// What a limit said about a request.
    LimitResult {
        /// It may pass.
        Passed = "passed",
        /// Too many over time.
        Limited = "limited",
        /// Too many at once.
        Crowded = "crowded",
        /// It would have been refused, if the limit did more than observe.
        Observed = "observed",
    }
    /// How a login ended.
    LoginResult {
        /// Superset let the user in.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
        /// Nobody tried a password: an error, a missing token.
        Void = "void",
        /// Too many had failed; Superset was not asked.
        Limited = "limited",
        /// It would have been refused, if the guard did more than observe.
        Observed = "observed",
    }
    /// What name servers say of a client that calls itself a search engine.
    ProofResult {
        /// It is one.
        Proven = "proven",
        /// It is none.
        Refuted = "refuted",
        /// They say nothing.
        Unanswered = "unanswered",
    }
    /// Why something was not told to the fleet.
    FleetDrop {
        /// The queue of the workers was full.
        Queue = "queue",
        /// Too many keys waited for a round.
        Pending = "pending",
        /// Redis has something else under the key.
        Key = "key",
    }
    /// What failed before a further attempt.
    RetryCause {
        /// No connection to the endpoint.
        Connect = "connect",
        /// A reused connection had been closed by the endpoint.
        Race = "race",
        /// The connection broke before the response head.
        Broken = "broken",
        /// The response head did not come in time.
        Silent = "silent",
        /// The endpoint had hung for too long to be waited for.
        Hangs = "hangs",
        /// The endpoint refused the request unprocessed.
        Unprocessed = "unprocessed",
        /// The answer had a status that the route repeats.
        Status = "status",
        /// The endpoint does not have an asset that others may have.
        Asset = "asset",
        /// No response head within the time of one attempt.
        Slow = "slow",
        /// The answer was slower than most: asked for elsewhere as well.
        Hedge = "hedge",
    }
    /// What became of a second question beside a slow first one.
    HedgeOutcome {
        /// Its answer came first.
        Won = "won",
        /// The first one's came first.
        Slower = "slower",
        /// It brought none worth having.
        Failed = "failed",
    }
    /// What became of an idle connection that its endpoint had closed.
    RaceOutcome {
        /// Seen before anything was sent.
        Avoided = "avoided",
        /// Seen after the request was sent.
        Lost = "lost",
    }
    /// Where the connection for an attempt came from, or why there was none.
    ConnectResult {
        /// A new connection.
        Opened = "opened",
        /// One from the pool.
        Reused = "reused",
        /// Refused by the endpoint's host.
        Refused = "refused",
        /// The connect clock ran out.
        Timeout = "timeout",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The name has no address.
        Unresolved = "unresolved",
        /// Any other error.
        Error = "error",
    }
    /// Result of an active check.
    ProbeResult {
        /// A good answer in time.
        Good = "good",
        /// A good answer, but late: busy, not dead.
        Late = "late",
        /// An answer with the wrong status or body.
        Wrong = "wrong",
        /// No answer in time.
        Silent = "silent",
        /// No connection.
        Unconnected = "unconnected",
        /// The connection broke.
        Broken = "broken",
        /// The main check is well, the deep one is not.
        DeepFailed = "deep_failed",
    }
    /// Standing of an endpoint, as told to operators.
    Standing {
        /// Not checked yet.
        Unknown = "unknown",
        /// Well.
        Up = "up",
        /// Answers late.
        Late = "late",
        /// Out.
        Down = "down",
    }
    /// What DNS said about a pool's endpoints.
    DiscoveryResult {
        /// Endpoints.
        Found = "found",
        /// No such name, or no record of the kind.
        Empty = "empty",
        /// Nothing that can be used.
        Failed = "failed",
    }
    /// Why an endpoint was ejected.
    Ejection {
        /// Failures and answers that say "cannot serve", in a row.
        Gateway = "gateway_errors",
        /// Failed connects in a row.
        Connect = "connect_failures",
        /// Attempts in a row without a response head in time.
        Silent = "timeouts",
        /// A share of errors well above that of the others.
        Errors = "error_rate",
        /// The exchange that tried it out failed.
        Trial = "trial",
    }
    /// Direction in a tunnel.
    Direction {
        /// From the client to the endpoint.
        FromClient = "from_client",
        /// From the endpoint to the client.
        ToClient = "to_client",
    }
    /// Result of a reload.
    Reload {
        /// A new generation is in place.
        Ok = "ok",
        /// The old generation stays.
        Failed = "failed",
    }
    /// What became of a change that an operator asked for.
    AdminChange {
        /// Made.
        Made = "made",
        /// Not understood, or impossible as things are.
        Invalid = "invalid",
        /// Without the token.
        Unauthenticated = "unauthenticated",
        /// From a page of another origin.
        Foreign = "foreign",
    }
    /// Why a record was lost.
    LogDrop {
        /// The worker's queue was full.
        QueueFull = "queue_full",
        /// The sink's queue was full: it takes records more slowly than they come, or not at all.
        SinkFull = "sink_full",
        /// The spool was full: the oldest went for newer ones.
        SpoolFull = "spool_full",
        /// The receiver will never take it.
        Refused = "refused",
        /// Spooled for another kind of receiver than the sink is now.
        Foreign = "foreign",
        /// The spool could not be read where it was. Of what cannot be counted, one for each place.
        Damaged = "damaged",
        /// The sink had not taken it when the process ended.
        Ending = "ending",
    }
}
