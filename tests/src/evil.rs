//! A node that somebody has taken over: it announces whatever it is told to, with attributes that no honest speaker sends.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::Netns;
use margay_net::Cidr;
use socket2::{Domain, Socket, Type};

use crate::bgp::{self, KEEPALIVE, NOTIFICATION, OPEN, UPDATE};

const HANDSHAKE: Duration = Duration::from_secs(10);
const HOLD_TIME: u16 = 90;
/// What AS_PATH and OPEN have where a number needs four octets (RFC 6793).
const AS_TRANS: u16 = 23456;

/// Who a peer says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The address to connect from, and the next hop of what is announced.
    pub address: Ipv4Addr,
    /// The BGP identifier.
    pub identifier: Ipv4Addr,
    pub asn: u32,
}

/// How a prefix is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path<'a> {
    /// Over iBGP: an empty AS path and the greatest LOCAL_PREF, with an ORIGINATOR_ID or without.
    Internal { originator: Option<Ipv4Addr> },
    /// Over eBGP: AS_PATH, the neighbour first.
    External(&'a [u32]),
}

/// An established session over IPv4, its AS numbers of four octets. A thread reads and keeps it alive; what the other
/// side tells is dropped. It offers no graceful restart: its routes go when it is dropped.
#[derive(Debug)]
pub struct Evil {
    identity: Identity,
    stream: TcpStream,
    ended: Arc<Mutex<Option<String>>>,
}

impl Evil {
    /// Connects to port 179 from inside the namespace.
    pub fn connect(netns: &Netns, identity: Identity, to: Ipv4Addr) -> Result<Evil> {
        let mut stream = netns.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((identity.address, 0)).into())?;
            socket.connect_timeout(&SocketAddr::from((to, 179)).into(), HANDSHAKE).context("connect")?;
            Ok(TcpStream::from(socket))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HANDSHAKE))?;
        stream.write_all(&open(identity))?;
        for wanted in [OPEN, KEEPALIVE] {
            let (kind, body) = bgp::read_message(&mut stream)?;
            ensure!(kind == wanted, "a message of type {kind} instead of {wanted}: {body:?}");
            if kind == OPEN {
                stream.write_all(&bgp::keepalive())?;
            }
        }
        stream.set_read_timeout(None)?;
        let ended = Arc::new(Mutex::new(None));
        let (reader, shared) = (stream.try_clone()?, Arc::clone(&ended));
        std::thread::spawn(move || {
            let why = keep_alive(reader).err().map(|error| format!("{error:#}"));
            *lock(&shared) = why;
        });
        Ok(Evil { identity, stream, ended })
    }

    /// Announces prefixes, in this order.
    pub fn announce(&self, prefixes: &[Cidr], path: Path<'_>) -> Result<()> {
        prefixes.iter().try_for_each(|prefix| self.send(&update(&[], &attributes(self.identity, path), &[*prefix])))
    }

    /// Withdraws prefixes.
    pub fn withdraw(&self, prefixes: &[Cidr]) -> Result<()> {
        self.send(&update(prefixes, &[], &[]))
    }

    /// One write for each message, so that none is cut in two by a KEEPALIVE.
    fn send(&self, message: &[u8]) -> Result<()> {
        if let Some(why) = &*lock(&self.ended) {
            bail!("the session has ended: {why}");
        }
        (&self.stream).write_all(message).context("write")
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        // Ends the thread, whose part of the socket would keep the session up; an error means that it has ended.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

fn lock(ended: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    ended.lock().expect("nobody panics with it")
}

/// Answers each KEEPALIVE with one: the other side says them three times as often as the hold time asks for.
fn keep_alive(mut stream: TcpStream) -> Result<()> {
    loop {
        match bgp::read_message(&mut stream)? {
            (KEEPALIVE, _) => stream.write_all(&bgp::keepalive()).context("write")?,
            (NOTIFICATION, body) => bail!("NOTIFICATION {body:?}"),
            _ => {}
        }
    }
}

/// An OPEN with the capabilities IPv4 unicast (RFC 4760) and AS numbers of four octets (RFC 6793).
fn open(identity: Identity) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 65, 4];
    capabilities.extend(identity.asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(identity.asn).unwrap_or(AS_TRANS).to_be_bytes());
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(identity.identifier.octets());
    let length = u8::try_from(capabilities.len()).expect("two capabilities are short");
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    bgp::message(OPEN, &body)
}

fn attributes(identity: Identity, path: Path<'_>) -> Vec<u8> {
    let mut out = vec![0x40, 1, 1, 0];
    let path_of = |asns: &[u32]| -> Vec<u8> {
        let numbers: Vec<u8> = asns.iter().flat_map(|asn| asn.to_be_bytes()).collect();
        let count = u8::try_from(asns.len()).expect("AS paths of tests are short");
        let segment = if asns.is_empty() { Vec::new() } else { [vec![2, count], numbers].concat() };
        [vec![0x40, 2, u8::try_from(segment.len()).expect("likewise")], segment].concat()
    };
    match path {
        Path::External(asns) => out.extend(path_of(asns)),
        Path::Internal { .. } => out.extend(path_of(&[])),
    }
    out.extend([0x40, 3, 4]);
    out.extend(identity.address.octets());
    if let Path::Internal { originator } = path {
        out.extend([0x40, 5, 4]);
        out.extend(u32::MAX.to_be_bytes());
        if let Some(originator) = originator {
            out.extend([0x80, 9, 4]);
            out.extend(originator.octets());
        }
    }
    out
}

fn update(withdrawn: &[Cidr], attributes: &[u8], announced: &[Cidr]) -> Vec<u8> {
    let withdrawn: Vec<u8> = withdrawn.iter().flat_map(nlri).collect();
    let mut body = bgp::length(&withdrawn).to_vec();
    body.extend(withdrawn);
    body.extend(bgp::length(attributes));
    body.extend(attributes);
    body.extend(announced.iter().flat_map(nlri));
    bgp::message(UPDATE, &body)
}

/// A prefix of IPv4: its length and as many octets as that takes.
fn nlri(prefix: &Cidr) -> Vec<u8> {
    let octets = match prefix.addr() {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(_) => unreachable!("the session carries IPv4 alone"),
    };
    let len = prefix.len();
    [&[len], &octets[..usize::from(len.div_ceil(8))]].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const IDENTITY: Identity =
        Identity { address: Ipv4Addr::new(10, 0, 0, 3), identifier: Ipv4Addr::new(9, 9, 9, 9), asn: 4_200_000_001 };

    #[test]
    fn an_update_is_as_rfc_4271_and_4456_have_it() {
        let path = Path::Internal { originator: Some(Ipv4Addr::new(1, 2, 3, 4)) };
        let prefixes: Vec<Cidr> = ["0.0.0.0/0", "10.65.128.0/17"].iter().map(|text| text.parse().unwrap()).collect();
        let bytes = update(&prefixes[1..], &attributes(IDENTITY, path), &prefixes);
        assert_eq!(bytes[16..19], [0, 60, UPDATE]);
        assert_eq!(bytes[19..27], [0, 4, 17, 10, 65, 128, 0, 28]);
        assert_eq!(bytes[27..34], [0x40, 1, 1, 0, 0x40, 2, 0]);
        assert_eq!(bytes[34..48], [0x40, 3, 4, 10, 0, 0, 3, 0x40, 5, 4, 255, 255, 255, 255]);
        assert_eq!(bytes[48..], [0x80, 9, 4, 1, 2, 3, 4, 0, 17, 10, 65, 128]);
        let external = attributes(IDENTITY, Path::External(&[4_200_000_001]));
        assert_eq!(external[4..13], [0x40, 2, 6, 2, 1, 250, 86, 234, 1]);
    }

    #[test]
    fn an_open_names_the_as_number_in_four_octets_where_it_needs_them() {
        let bytes = open(IDENTITY);
        assert_eq!(bytes[19..29], [4, 91, 160, 0, 90, 9, 9, 9, 9, 14]);
        assert_eq!(bytes[29..], [2, 12, 1, 4, 0, 1, 0, 1, 65, 4, 250, 86, 234, 1]);
        assert_eq!(open(Identity { asn: 64512, ..IDENTITY })[20..22], 64512_u16.to_be_bytes());
    }
}
