//! The TCP check: a connection, and a TLS handshake where the pool speaks TLS. Not for Gunicorn.

use super::Why;
use super::wire::To;

/// Checks an endpoint once.
pub(crate) async fn probe(to: &To) -> Result<(), Why> {
    to.connect().await.map(drop)
}
