//! TCP sockets.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::unix::BACKLOG;

/// One socket, and the address that it became.
pub(super) fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = listen(address, false)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A socket for each thread, all on one port.
pub(super) fn bind_each(
    address: SocketAddr,
    threads: usize,
) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
    if threads == 1 {
        let (listener, address) = bind(address)?;
        return Ok((vec![listener], address));
    }
    // Sockets that share a port would share it with another process too, and each would get a part of
    // the connections. One that does not share finds out that the port is taken.
    let probe = socket(address, false)?;
    let address = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    let listeners: io::Result<Vec<_>> = (0..threads).map(|_| listen(address, true)).collect();
    Ok((listeners?, address))
}

fn listen(address: SocketAddr, shares_port: bool) -> io::Result<TcpListener> {
    let socket = socket(address, shares_port)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shares_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
