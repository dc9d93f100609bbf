//! Binds listening sockets: one per worker on each address, and Unix sockets by their path.
//!
//! Floor 3. With `SO_REUSEPORT` the kernel spreads connections over the workers' sockets, so that none of them shares
//! a queue. Every address is bound before any is listened on, and every error is known before anything starts.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that wait in the kernel, per socket.
const BACKLOG: i32 = 4096;

/// Binds `address` once for each of `sockets` workers. Port 0 picks a free port, the same for all.
///
/// # Errors
/// Also when another process listens on the address: sharing a port with it by accident would split the traffic.
pub fn bind(address: SocketAddr, sockets: usize) -> io::Result<Vec<TcpListener>> {
    // A bind without SO_REUSEPORT finds out whether the address is free; `SO_REUSEPORT` itself would not tell.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let bound = (0..sockets).map(|_| socket(address, true)).collect::<io::Result<Vec<_>>>()?;
    bound
        .into_iter()
        .map(|socket| {
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

/// Binds `address`, whose port is known, for UDP once for each of `sockets` workers, with kernel buffers of `buffer`
/// bytes each way or as much as the system grants; how much that is.
///
/// # Errors
/// Also when another process has the port.
pub fn bind_udp(address: SocketAddr, sockets: usize, buffer: usize) -> io::Result<(Vec<UdpSocket>, usize)> {
    drop(udp_socket(address, false)?);
    let bound = (0..sockets).map(|_| udp_socket(address, true)).collect::<io::Result<Vec<_>>>()?;
    let mut granted = buffer;
    for socket in &bound {
        socket.set_recv_buffer_size(buffer)?;
        socket.set_send_buffer_size(buffer)?;
        // Linux tells twice of what it grants: the other half is its own.
        granted = granted.min(socket.recv_buffer_size()? / 2).min(socket.send_buffer_size()? / 2);
    }
    Ok((bound.into_iter().map(Into::into).collect(), granted))
}

fn udp_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two addresses, whatever the system's default says.
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process in TIME_WAIT are no obstacle.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if !shared {
        // Only a listening socket tells that another one listens.
        socket.listen(1)?;
    }
    Ok(socket)
}

/// A listening Unix socket; its file goes with it.
#[derive(Debug)]
pub struct Local {
    /// The socket.
    pub socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that nobody else's is removed.
    file: (u64, u64),
}

/// Binds a Unix socket whose file has `mode`. What a process that was killed left behind is replaced.
///
/// # Errors
/// Also when another process listens there, or when something lies there that is no socket.
pub fn bind_local(path: &Path, mode: u32) -> io::Result<Local> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket lies there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before anybody can connect, which needs `listen`.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    let found = std::fs::symlink_metadata(path)?;
    socket.listen(BACKLOG)?;
    Ok(Local { socket: socket.into(), path: path.to_owned(), file: (found.dev(), found.ino()) })
}

impl Local {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            // Left behind, it is replaced at the next start.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_socket_replaces_a_dead_one_and_spares_a_living_one_and_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let first = bind_local(&path, 0o600).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(bind_local(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);

        // As after SIGKILL: the socket is closed, its file stays.
        let left = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        let dead = directory.path().join("dead.sock");
        left.bind(&SockAddr::unix(&dead).unwrap()).unwrap();
        drop(left);
        drop(bind_local(&dead, 0o660).unwrap());
        assert!(!dead.exists());

        let file = directory.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert_eq!(bind_local(&file, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn workers_share_a_port_that_nobody_else_can_take() {
        let sockets = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).unwrap();

        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
