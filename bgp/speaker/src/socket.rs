use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use margay_bgp_core::{ListenPeer, Secret};
use margay_net::Cidr;
use margay_netlink::socket as options;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// What every packet of a listening socket is sent with: a peer that uses GTSM (RFC 5082) drops a SYN-ACK with less.
/// Accepted sockets get their peer's own value.
const LISTEN_TTL: u8 = 255;

/// A connection to be made: [`margay_bgp_core::Output::Connect`] without the names.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) remote: SocketAddr,
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: Option<String>,
    pub(crate) ttl: Option<u8>,
    pub(crate) min_ttl: Option<u8>,
    pub(crate) password: Option<Secret>,
}

/// Makes a connection; the error says what could not be done.
pub(crate) async fn connect(dial: Dial) -> Result<TcpStream, String> {
    let socket = outbound(&dial)?;
    match tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(dial.remote)).await {
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(|error| format!("TCP_NODELAY: {error}"))?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(format!("connect to {}: {error}", dial.remote)),
        Err(_) => Err(format!("connect to {}: no answer within {} s", dial.remote, CONNECT_TIMEOUT.as_secs())),
    }
}

fn outbound(dial: &Dial) -> Result<TcpSocket, String> {
    let name = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let socket = new(Domain::for_address(dial.remote)).map_err(name("socket"))?;
    if let Some(interface) = &dial.interface {
        // Also gives a link-local address its scope.
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|error| format!("bind to interface {interface}: {error}"))?;
    }
    set_ttl(&socket, dial.remote.ip(), dial.ttl).map_err(name("TTL"))?;
    set_min_ttl(&socket, dial.min_ttl).map_err(name("minimum TTL"))?;
    if let Some(password) = &dial.password {
        options::set_tcp_md5(&socket, dial.remote.ip(), password.expose().as_bytes()).map_err(name("TCP-MD5"))?;
    }
    if let Some(source) = dial.source {
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .map_err(|error| format!("bind to source address {source}: {error}"))?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Listens on an address, and on a wildcard one for its own family alone.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = new(Domain::for_address(address))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_ttl(&socket, address.ip(), Some(LISTEN_TTL))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

pub(crate) fn wildcards(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}

/// Sets or (`None`) takes away the key for connections from `peers`; the longest prefix counts.
pub(crate) fn set_listen_password(listener: &TcpListener, peers: Cidr, password: Option<&Secret>) -> io::Result<()> {
    options::set_tcp_md5_prefix(listener, peers, password.map_or(&[][..], |password| password.expose().as_bytes()))
}

/// Gives an accepted connection what its peer's setting asks for; that of a stranger is left alone.
pub(crate) fn prepare_accepted(stream: &TcpStream, peer: Option<&ListenPeer>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(peer) = peer {
        set_ttl(&SockRef::from(stream), peer.remote.addr(), peer.ttl)?;
        set_min_ttl(stream, peer.min_ttl)?;
    }
    Ok(())
}

fn new(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn set_ttl(socket: &Socket, remote: IpAddr, ttl: Option<u8>) -> io::Result<()> {
    match (remote, ttl) {
        (_, None) => Ok(()),
        (IpAddr::V4(_), Some(ttl)) => socket.set_ttl_v4(ttl.into()),
        (IpAddr::V6(_), Some(ttl)) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

fn set_min_ttl(socket: &impl std::os::fd::AsFd, min_ttl: Option<u8>) -> io::Result<()> {
    min_ttl.map_or(Ok(()), |min_ttl| options::set_min_ttl(socket, min_ttl))
}
