//! Syslog over datagrams, streams and TLS.
//!
//! Floor 5. One connection, made when something is to be sent. Syslog acknowledges nothing: that a connection is gone is all
//! that is ever known, and whoever sends keeps what was sent lately for that case.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_util::FutureExt as _;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use super::wire::{Duplex, Security, dial};
use crate::config::sink::{Syslog, SyslogOver};
use crate::control::transport::TransportError;
use crate::telemetry::events::Chain;
use crate::telemetry::parcel::{Entry, Wrap};

/// Longest wait for a server to close its end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection to a syslog server.
pub(super) struct Stream {
    to: Syslog,
    security: Option<Security>,
    connection: Option<Connection>,
}

enum Connection {
    Datagrams(UdpSocket),
    Bytes(Box<dyn Duplex>),
}

impl Stream {
    /// Not connected yet. Reads the files that `to` names.
    pub(super) fn new(to: &Syslog) -> Result<Self, TransportError> {
        let security = match &to.over {
            SyslogOver::Udp | SyslogOver::Tcp => None,
            SyslogOver::Tls(wanted) => Some(Security::new(wanted, &[&to.host])?),
        };
        Ok(Self { to: to.clone(), security, connection: None })
    }

    /// Sends entries; gives how many are too long for the network. An error ends the connection and says why.
    pub(super) async fn send(&mut self, entries: &[Entry]) -> Result<u64, String> {
        let patience = self.to.patience;
        if !self.is_alive() {
            self.connection = None;
            return Err("the server has closed the connection".to_owned());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match timeout(patience, self.connect()).await {
                Ok(connected) => connected.map_err(|error| Chain(&error).to_string())?,
                Err(_) => return Err(format!("no connection within {patience:?}")),
            },
        };
        match timeout(patience, connection.write(entries)).await {
            Ok(Ok(too_long)) => {
                self.connection = Some(connection);
                Ok(too_long)
            }
            Ok(Err(error)) => Err(Chain(&error).to_string()),
            Err(_) => Err(format!("nothing written within {patience:?}")),
        }
    }

    /// Whether the connection, if there is one, is not known to be gone.
    pub(super) fn is_alive(&mut self) -> bool {
        let Some(Connection::Bytes(stream)) = &mut self.connection else { return true };
        let mut heard = [0; 64];
        // What a server says means nothing; that it says no more is the news.
        loop {
            match stream.read(&mut heard).now_or_never() {
                None => return true,
                Some(Ok(0) | Err(_)) => return false,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Says that nothing more will come, and waits for the server's end; gives whether that came.
    pub(super) async fn close(&mut self) -> bool {
        let Some(Connection::Bytes(mut stream)) = self.connection.take() else { return true };
        let closing = async {
            stream.shutdown().await?;
            while stream.read(&mut [0; 64]).await? > 0 {}
            Ok::<(), io::Error>(())
        };
        matches!(timeout(FAREWELL, closing).await, Ok(Ok(())))
    }

    async fn connect(&self) -> io::Result<Connection> {
        if self.to.over != SyslogOver::Udp {
            let dialled = dial(&self.to.host, self.to.port, self.security.as_ref(), self.to.patience).await;
            return dialled.map(Connection::Bytes);
        }
        let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((self.to.host.as_str(), self.to.port)).await? {
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            match socket.connect(address).await {
                Ok(()) => return Ok(Connection::Datagrams(socket)),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }
}

impl Connection {
    /// Writes entries; gives how many were left out as too long for a datagram: they would be so the next time.
    async fn write(&mut self, entries: &[Entry]) -> io::Result<u64> {
        let mut too_long = 0;
        match self {
            Self::Datagrams(socket) => {
                for entry in entries {
                    match socket.send(&entry.payload).await {
                        Err(error) if Errno::from_io_error(&error) == Some(Errno::MSGSIZE) => too_long += 1,
                        sent => {
                            sent?;
                        }
                    }
                }
            }
            Self::Bytes(stream) => {
                stream.write_all(&Wrap::Counted.body(entries)).await?;
                stream.flush().await?;
            }
        }
        Ok(too_long)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("to", &self.to).field("connected", &self.connection.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn message_too_long_for_a_datagram_is_left_out_and_those_behind_it_go() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = Syslog {
            host: "127.0.0.1".into(),
            port: server.local_addr().unwrap().port(),
            over: SyslogOver::Udp,
            facility: 16,
            app: "test".into(),
            id_element: None,
            longest: 70_000,
            settle: Duration::ZERO,
            patience: Duration::from_secs(5),
        };
        let entry = |length| Entry { at: 1, payload: Bytes::from(vec![b'x'; length]) };
        let mut stream = Stream::new(&to).unwrap();

        let sent = stream.send(&[entry(70_000), entry(3)]).await;

        assert_eq!(sent, Ok(1));
        assert_eq!(server.recv(&mut [0; 8]).await.unwrap(), 3);
    }
}
