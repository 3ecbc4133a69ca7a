//! A client that says exactly what a test wants it to say, from a second address of the peer's namespace.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use margay_bgp_speaker::core::PeerConfig;
use margay_net::Asn;
use socket2::{Domain, Socket, Type};

use super::Lab;

pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
pub const ASN: u16 = 65003;

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;

/// Our setting for it: we wait for its connection.
pub fn peer_config() -> PeerConfig {
    let mut peer = PeerConfig::new(ADDRESS.into(), Asn(ASN.into()));
    peer.passive = true;
    peer.connect_retry = Duration::from_secs(1);
    peer
}

/// A message with a right header around `body`.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).expect("a message's length");
    message_with([0xff; 16], length, kind, body)
}

/// A message with any header.
pub fn message_with(marker: [u8; 16], length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = marker.to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// The body of an OPEN (RFC 4271 section 4.2) without optional parameters.
pub fn open(version: u8, asn: u16, hold_time: u16, identifier: [u8; 4]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(identifier);
    body.push(0);
    body
}

/// The OPEN that our speaker takes.
pub fn good_open() -> Vec<u8> {
    message(OPEN, &open(4, ASN, 90, [192, 0, 2, 3]))
}

/// Connects from [`ADDRESS`] to our speaker's IPv4 address.
pub fn connect(lab: &Lab) -> io::Result<TcpStream> {
    let dial = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((ADDRESS, 0)).into())?;
        let ours = SocketAddr::from(([192, 0, 2, 1], 179));
        socket.connect_timeout(&ours.into(), Duration::from_secs(2))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    };
    lab.theirs.thread("raw client", dial).join().expect("the client's thread")
}

/// Reads the next message: its type and body.
pub fn read_message(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 19];
    stream.read_exact(&mut header)?;
    assert_eq!(header[..16], [0xff; 16], "the marker of RFC 4271 section 4.1");
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length.checked_sub(19).expect("a length of at least 19")];
    stream.read_exact(&mut body)?;
    Ok((header[18], body))
}

/// Takes our speaker's OPEN, says `bytes`, and returns the NOTIFICATION that comes back, after which the stream must
/// end.
pub fn notification_for(lab: &Lab, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = connect(lab).map_err(|error| format!("connect: {error}"))?;
    let (kind, _) = read_message(&mut stream).map_err(|error| format!("no OPEN: {error}"))?;
    super::so(kind == OPEN, || format!("message type {kind} instead of OPEN"))?;
    stream.write_all(bytes).map_err(|error| format!("write: {error}"))?;
    loop {
        let (kind, body) = read_message(&mut stream).map_err(|error| format!("no NOTIFICATION: {error}"))?;
        if kind == NOTIFICATION {
            let rest = stream.read(&mut [0]).map_err(|error| format!("no end of stream: {error}"))?;
            assert_eq!(rest, 0, "nothing follows a NOTIFICATION");
            return Ok(body);
        }
    }
}
