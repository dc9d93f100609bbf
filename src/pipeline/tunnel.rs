//! The handshake of a tunnel: ours with the endpoint, the client's with us (RFC 6455 §4, RFC 8441 §5).

use http::header::{
    CONNECTION, CONTENT_LENGTH, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, StatusCode};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::config::route::WebSocket;
use crate::head::{Fields, HeaderValue, request, response};
use crate::headers;
use crate::message::Upgrade;

use super::fault::Fault;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What has to be remembered of a handshake until the endpoint has answered.
pub(super) struct Handshake {
    upgrade: Upgrade,
    /// What the client must read in `Sec-WebSocket-Accept`; HTTP/2 knows no such field.
    for_client: Option<HeaderValue>,
    /// What the endpoint must say.
    from_endpoint: HeaderValue,
}

impl Handshake {
    /// Checks the client's handshake and puts ours in its place.
    ///
    /// # Errors
    /// [`Fault::Malformed`] for a handshake that is none, [`Fault::OriginRefused`].
    pub(super) fn begin(
        head: &mut request::Parts,
        upgrade: Upgrade,
        settings: &WebSocket,
        scheme: &str,
        host: &str,
    ) -> Result<Self, Fault> {
        check_origin(&head.headers, settings, scheme, host)?;
        let for_client = match upgrade {
            Upgrade::Http1 => Some(accept_of(head.headers.get(SEC_WEBSOCKET_KEY))?),
            Upgrade::ExtendedConnect => None,
        };
        let key = generate_key();
        let from_endpoint = header(derive_accept_key(key.as_bytes()))?;
        // RFC 8441 §5: an HTTP/2 client sends neither key, nor Connection, nor Upgrade; HTTP/1.1 wants all of them.
        head.method = Method::GET;
        head.headers.insert(SEC_WEBSOCKET_KEY, header(key)?);
        head.headers.insert(UPGRADE, WEBSOCKET);
        if !head.headers.contains_key(SEC_WEBSOCKET_VERSION) {
            head.headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        Ok(Self { upgrade, for_client, from_endpoint })
    }

    /// Whether the client would take `status`, which is no 101, for its tunnel: over HTTP/2 any 2xx in answer to CONNECT
    /// opens one (RFC 8441 §5), and what follows would not be WebSocket.
    pub(super) fn would_open(&self, status: StatusCode) -> bool {
        self.upgrade == Upgrade::ExtendedConnect && status.is_success()
    }

    /// Checks the endpoint's 101 and turns it into the client's answer.
    ///
    /// # Errors
    /// [`Fault::UpstreamMalformed`] when the endpoint did not prove that it read our handshake (RFC 6455 §4.1).
    pub(super) fn finish(self, head: &mut response::Parts) -> Result<(), Fault> {
        let fields = &mut head.headers;
        let connection = fields.get_all(CONNECTION).flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let proven = fields.get(SEC_WEBSOCKET_ACCEPT) == Some(&self.from_endpoint)
            && fields.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
            && connection.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        if !proven {
            return Err(Fault::UpstreamMalformed);
        }
        headers::strip_hop_by_hop(fields).map_err(|_| Fault::UpstreamMalformed)?;
        // RFC 9110 §8.6: no length in a 101, nor in a 2xx to CONNECT.
        for name in [CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT] {
            fields.remove(name);
        }
        match (self.upgrade, self.for_client) {
            (Upgrade::Http1, Some(accept)) => {
                head.headers.insert(UPGRADE, WEBSOCKET);
                head.headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
            (Upgrade::Http1 | Upgrade::ExtendedConnect, _) => head.status = StatusCode::OK,
        }
        Ok(())
    }
}

/// RFC 6455 §4.2.1: the key is 16 bytes in base64, 24 characters.
fn accept_of(key: Option<&HeaderValue>) -> Result<HeaderValue, Fault> {
    let key = key.filter(|key| key.len() == 24).ok_or(Fault::Malformed("Sec-WebSocket-Key"))?;
    header(derive_accept_key(key.as_bytes()))
}

fn header(text: String) -> Result<HeaderValue, Fault> {
    HeaderValue::try_from(text).map_err(|_| Fault::Internal)
}

/// RFC 6455 §10.2: superset-websocket does not look at the origin itself.
fn check_origin(fields: &Fields, settings: &WebSocket, scheme: &str, host: &str) -> Result<(), Fault> {
    if settings.origins.is_empty() {
        return Ok(());
    }
    let origin = fields.get(ORIGIN).and_then(|value| value.to_str().ok()).unwrap_or("");
    let same = origin
        .split_once("://")
        .is_some_and(|(theirs, authority)| theirs == scheme && authority.eq_ignore_ascii_case(host));
    let allowed = settings
        .origins
        .iter()
        .any(|allowed| if allowed == "same" { same } else { allowed.eq_ignore_ascii_case(origin) });
    if allowed { Ok(()) } else { Err(Fault::OriginRefused) }
}

#[cfg(test)]
mod tests;
