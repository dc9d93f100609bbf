//! Error codes (RFC 9114 §8.1, RFC 9204 §6), and what a peer did to deserve one.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal $word:literal;)*) => {
        /// An error code of HTTP/3 or QPACK.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// As it goes over the wire.
            pub const fn value(self) -> u64 {
                match self { $(Self::$name => $value,)* }
            }

            /// As it stands in metrics and events.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

codes! {
    /// Nothing is wrong.
    NoError = 0x100 "no_error";
    /// Something of ours broke.
    InternalError = 0x102 "internal_error";
    /// A stream that must not be, or not twice.
    StreamCreationError = 0x103 "stream_creation_error";
    /// A stream ended without which the connection cannot be.
    ClosedCriticalStream = 0x104 "closed_critical_stream";
    /// A frame where it must not be.
    FrameUnexpected = 0x105 "frame_unexpected";
    /// A frame that breaks its own layout.
    FrameError = 0x106 "frame_error";
    /// More than anybody needs.
    ExcessiveLoad = 0x107 "excessive_load";
    /// An identifier that must not be.
    IdError = 0x108 "id_error";
    /// Settings that cannot be.
    SettingsError = 0x109 "settings_error";
    /// A control stream that does not begin with its settings.
    MissingSettings = 0x10a "missing_settings";
    /// A request that was not processed and can be repeated.
    RequestRejected = 0x10b "request_rejected";
    /// A request or its answer is no longer wanted.
    RequestCancelled = 0x10c "request_cancelled";
    /// A request's stream ended before its head did.
    RequestIncomplete = 0x10d "request_incomplete";
    /// A malformed message.
    MessageError = 0x10e "message_error";
    /// A field section that cannot be decoded.
    DecompressionFailed = 0x200 "qpack_decompression_failed";
    /// Instructions to a table that we do not have.
    EncoderStreamError = 0x201 "qpack_encoder_stream_error";
    /// Feedback about a table that we do not use.
    DecoderStreamError = 0x202 "qpack_decoder_stream_error";
}

/// What a peer did that ends its connection (RFC 9114 §8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offence {
    /// The code that it gets.
    pub code: Code,
    /// What it was; never text of the peer.
    pub what: &'static str,
}

impl Offence {
    /// An offence.
    pub const fn new(code: Code, what: &'static str) -> Self {
        Self { code, what }
    }
}
