//! BGP peers that the tests speak for themselves: as much of RFC 4271 as it takes to stay up, to announce and to count.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use margay_lab::Netns;
use socket2::{Domain, Socket, Type};

pub(crate) const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
pub(crate) const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
const HEADER: usize = 19;
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Who a test speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    /// The address to connect from, and the BGP identifier.
    pub address: Ipv4Addr,
    pub asn: u16,
    /// In seconds.
    pub hold_time: u16,
}

impl Speaker {
    /// Connects to a speaker's port 179 from inside the namespace, and returns when the session is established.
    pub fn connect(self, netns: &Netns, to: Ipv4Addr) -> Result<TcpStream> {
        netns.enter(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((self.address, 0)).into())?;
            socket.connect_timeout(&SocketAddr::from((to, 179)).into(), HANDSHAKE).context("connect")?;
            let mut stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(HANDSHAKE))?;
            stream.write_all(&self.open())?;
            stream.write_all(&keepalive())?;
            for wanted in [OPEN, KEEPALIVE] {
                let (kind, body) = read_message(&mut stream)?;
                ensure!(kind == wanted, "a message of type {kind} instead of {wanted}: {body:?}");
            }
            Ok(stream)
        })
    }

    /// An OPEN without capabilities: IPv4, AS numbers of two octets.
    fn open(self) -> Vec<u8> {
        let mut body = vec![4];
        body.extend(self.asn.to_be_bytes());
        body.extend(self.hold_time.to_be_bytes());
        body.extend(self.address.octets());
        body.push(0);
        message(OPEN, &body)
    }

    /// An UPDATE that announces /24s, with an AS path of three numbers that ends with `origin`.
    ///
    /// `prefixes` are the upper 24 bits of addresses; at most 1,000 fit.
    pub fn announcement(self, prefixes: impl IntoIterator<Item = u32>, origin: u16) -> Vec<u8> {
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 8, 2, 3];
        attributes.extend([self.asn, 3356, origin].iter().flat_map(|asn| asn.to_be_bytes()));
        attributes.extend([0x40, 3, 4]);
        attributes.extend(self.address.octets());
        let mut body = vec![0, 0];
        body.extend(length(&attributes));
        body.extend(attributes);
        body.extend(prefixes.into_iter().flat_map(nlri));
        message(UPDATE, &body)
    }

    /// An UPDATE that withdraws /24s; at most 1,000 fit.
    pub fn withdrawal(self, prefixes: impl IntoIterator<Item = u32>) -> Vec<u8> {
        let withdrawn: Vec<u8> = prefixes.into_iter().flat_map(nlri).collect();
        let mut body = length(&withdrawn).to_vec();
        body.extend(withdrawn);
        body.extend([0, 0]);
        message(UPDATE, &body)
    }
}

/// A KEEPALIVE.
pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(u16::try_from(HEADER + body.len()).expect("a message is at most 4,096 bytes").to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

pub(crate) fn length(part: &[u8]) -> [u8; 2] {
    u16::try_from(part.len()).expect("a message is at most 4,096 bytes").to_be_bytes()
}

fn nlri(prefix: u32) -> [u8; 4] {
    let [_, high, middle, low] = prefix.to_be_bytes();
    [24, high, middle, low]
}

pub(crate) fn read_message(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).context("read a header")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut body = vec![0; length.checked_sub(HEADER).context("a length below 19")?];
    stream.read_exact(&mut body).context("read a message")?;
    Ok((header[18], body))
}

/// What a [`Receiver`] has been told so far.
#[derive(Debug)]
struct Told {
    routes: Mutex<Routes>,
    /// The longest time without a message, in milliseconds.
    silence: AtomicU64,
    ended: Mutex<Option<String>>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Routes {
    announced: u64,
    withdrawn: u64,
    held: u64,
    /// A bit for each /24, by the upper 24 bits of its address.
    bits: Vec<u64>,
}

impl Told {
    fn new() -> Told {
        let routes = Routes { announced: 0, withdrawn: 0, held: 0, bits: vec![0; (1 << 24) / 64] };
        Told {
            routes: Mutex::new(routes),
            silence: AtomicU64::new(0),
            ended: Mutex::new(None),
            stop: AtomicBool::new(false),
        }
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().expect("nobody panics with it")
    }
}

impl Routes {
    /// Notes whether a prefix is held.
    fn set(&mut self, prefix: u32, held: bool) {
        let word = &mut self.bits[prefix as usize / 64];
        let bit = 1 << (prefix % 64);
        match (*word & bit != 0, held) {
            (false, true) => self.held += 1,
            (true, false) => self.held -= 1,
            _ => return,
        }
        *word ^= bit;
    }
}

/// A peer that reads everything, says KEEPALIVE every 0.9 s and counts what it is told, in a thread of its own.
#[derive(Debug)]
pub struct Receiver {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Takes over an established session.
    pub fn start(stream: TcpStream) -> Receiver {
        let told = Arc::new(Told::new());
        let shared = Arc::clone(&told);
        let thread = std::thread::spawn(move || {
            if let Err(error) = receive(stream, &shared) {
                *shared.ended.lock().expect("nobody panics with it") = Some(format!("{error:#}"));
            }
        });
        Receiver { told, thread: Some(thread) }
    }

    /// Prefixes announced and withdrawn, each as often as it was.
    pub fn counts(&self) -> (u64, u64) {
        let routes = self.told.routes();
        (routes.announced, routes.withdrawn)
    }

    /// Whether what it holds is these prefixes and no others, by the upper 24 bits of their addresses.
    pub fn holds(&self, prefixes: Range<u32>) -> bool {
        let routes = self.told.routes();
        let there = |prefix: u32| routes.bits[prefix as usize / 64] & (1 << (prefix % 64)) != 0;
        routes.held == u64::from(prefixes.end - prefixes.start) && prefixes.into_iter().all(there)
    }

    /// The longest time without a message so far.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.told.silence.load(Ordering::Relaxed))
    }

    /// Why the session ended; None while it is up.
    pub fn ended(&self) -> Option<String> {
        self.told.ended.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn receive(mut stream: TcpStream, told: &Told) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut buffer = vec![0; 1 << 17];
    let (mut filled, mut heard, mut spoke) = (0, Instant::now(), Instant::now());
    while !told.stop.load(Ordering::Relaxed) {
        if spoke.elapsed() >= Duration::from_millis(900) {
            stream.write_all(&keepalive()).context("write")?;
            spoke = Instant::now();
        }
        match stream.read(&mut buffer[filled..]) {
            Ok(read) => {
                ensure!(read > 0, "closed by the other side");
                filled += read;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error).context("read"),
        }
        told.silence.fetch_max(heard.elapsed().as_millis() as u64, Ordering::Relaxed);
        heard = Instant::now();
        let used = take(&buffer[..filled], told)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
    Ok(())
}

/// Takes the whole messages; returns how many bytes they are.
fn take(bytes: &[u8], told: &Told) -> Result<usize> {
    let mut at = 0;
    let mut routes = told.routes();
    while let Some(header) = bytes.get(at..at + HEADER) {
        let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
        ensure!(len >= HEADER, "a message of {len} bytes");
        let Some(body) = bytes.get(at + HEADER..at + len) else { break };
        match header[18] {
            UPDATE => {
                let (gone, rest) = part(body)?;
                let (_, new) = part(rest)?;
                let count = each(gone, |prefix| routes.set(prefix, false))?;
                routes.withdrawn += count;
                let count = each(new, |prefix| routes.set(prefix, true))?;
                routes.announced += count;
            }
            NOTIFICATION => anyhow::bail!("NOTIFICATION {body:?}"),
            _ => {}
        }
        at += len;
    }
    Ok(at)
}

/// Splits off a part with its length in front.
fn part(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>().context("an UPDATE that ends early")?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).context("an UPDATE that ends early")
}

/// Takes prefixes, which must be /24s; returns how many they are.
fn each(bytes: &[u8], mut take: impl FnMut(u32)) -> Result<u64> {
    let (prefixes, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "half a prefix");
    for &[length, high, middle, low] in prefixes {
        ensure!(length == 24, "a prefix of length {length}");
        take(u32::from_be_bytes([0, high, middle, low]));
    }
    Ok(prefixes.len() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_announced_and_not_withdrawn_is_held() {
        let speaker = Speaker { address: Ipv4Addr::new(10, 0, 0, 1), asn: 65001, hold_time: 3 };
        let mut bytes = speaker.announcement(0x14_0000..0x14_0064, 7);
        bytes.extend(keepalive());
        bytes.extend(speaker.withdrawal([0x14_0000, 0x14_0001]));
        let whole = bytes.len();
        bytes.extend(&keepalive()[..10]);
        let told = Arc::new(Told::new());
        assert_eq!(take(&bytes, &told).unwrap(), whole);
        assert_eq!(take(&speaker.announcement([0x14_0002], 8), &told).unwrap(), 49);
        let receiver = Receiver { told, thread: None };
        assert_eq!(receiver.counts(), (101, 2));
        assert!(receiver.holds(0x14_0002..0x14_0064));
        assert!(!receiver.holds(0x14_0001..0x14_0063));
    }
}
