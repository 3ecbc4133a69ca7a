//! A million prefixes from one peer, while fifty others hold for three seconds and one never reads.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use margay_bgp_speaker::core::{FsmState, PeerConfig, PeerName, SpeakerConfig};
use margay_net::{Asn, Family};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::speaker::OurSpeaker;
use crate::support::{Lab, OUR_ASN, raw, so, within};

const SESSIONS: u8 = 50;
const HOLD: u16 = 3;
pub(super) const PREFIXES: u32 = 1_000_000;
const PER_UPDATE: u32 = 1000;
/// The peer that never reads.
const DEAF: u8 = 99;

/// What the clients have seen.
#[derive(Debug, Default)]
struct Seen {
    /// Prefixes announced to each.
    prefixes: Vec<AtomicU64>,
    /// The longest silence of our speaker towards any of them, in milliseconds.
    silence: AtomicU64,
    ended: Mutex<Vec<String>>,
    stop: AtomicBool,
}

#[test]
fn a_million_prefixes_of_one_peer_delay_no_keepalive_and_expire_no_hold_timer_of_fifty() {
    let lab = Lab::new(Family::V4);
    let hosts: Vec<u8> = (100..100 + SESSIONS).chain([DEAF]).collect();
    for host in &hosts {
        lab.theirs.ip(&["address", "add", &format!("192.0.2.{host}/24"), "dev", crate::support::INTERFACE]);
    }
    let mut config = SpeakerConfig::new(Asn(OUR_ASN), Ipv4Addr::new(192, 0, 2, 1));
    for &host in &hosts {
        let mut peer = PeerConfig::new(address(host).into(), Asn(65100));
        peer.passive = true;
        peer.hold_time = Duration::from_secs(HOLD.into());
        if host == DEAF {
            peer.send_hold_time = Some(Duration::from_secs(4));
        }
        config.peers.insert(name(host), peer);
    }
    config.peers.insert(PeerName::from("feeder"), raw::peer_config());
    let ours = OurSpeaker::start(&lab, config, false);
    within(Duration::from_secs(5), "listening", || {
        let state = ours.handle.listener_state();
        so(state.is_listening() && !state.sockets.is_empty(), || format!("{state:?}"))
    });

    let seen = Arc::new(Seen { prefixes: (0..SESSIONS).map(|_| AtomicU64::new(0)).collect(), ..Seen::default() });
    let clients = lab.theirs.thread("clients", {
        let seen = seen.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let sessions: Vec<_> = hosts.iter().map(|&host| tokio::spawn(client(host, seen.clone()))).collect();
                for session in sessions {
                    session.await.unwrap();
                }
            });
        }
    });
    let established = || {
        let peers = ours.block_on(ours.handle.peers()).unwrap();
        peers.iter().filter(|peer| peer.state == FsmState::Established).count()
    };
    within(Duration::from_secs(20), "all sessions", || {
        let count = established();
        so(count == usize::from(SESSIONS) + 1, || format!("{count} sessions"))
    });

    let began = Instant::now();
    let feeder = std::thread::spawn({
        let stream = raw::connect(&lab).unwrap();
        move || feed(stream)
    });
    within(Duration::from_secs(300), "every client has every prefix", || {
        assert_eq!(*seen.ended.lock().unwrap(), [""; 0], "sessions ended");
        let least = seen.prefixes.iter().map(|count| count.load(Ordering::Relaxed)).min().unwrap();
        so(least >= u64::from(PREFIXES), || format!("the last one has {least}"))
    });
    let took = began.elapsed();
    // A hold time longer, so that a keepalive that was late shows.
    within(Duration::from_secs(30), "some quiet", || so(began.elapsed() > took + Duration::from_secs(4), String::new));
    let silence = seen.silence.load(Ordering::Relaxed);
    eprintln!("{PREFIXES} prefixes to {SESSIONS} peers in {took:?}, longest silence {silence} ms");
    assert!(silence < 1000 * u64::from(HOLD), "{silence} ms without a message");
    for peer in ours.block_on(ours.handle.peers()).unwrap() {
        if peer.name == name(DEAF) {
            assert_ne!(peer.state, FsmState::Established, "it never reads");
            assert!(peer.last_error.as_deref().unwrap_or_default().contains("send hold timer"), "{peer:?}");
        } else {
            assert_eq!((peer.state, peer.established_count), (FsmState::Established, 1), "{peer:?}");
        }
    }
    assert_eq!(ours.fib(|fib| fib.routes.len()), PREFIXES as usize);
    seen.stop.store(true, Ordering::Relaxed);
    drop(feeder);
    clients.join().unwrap();
}

fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, host)
}

fn name(host: u8) -> PeerName {
    PeerName::new(format!("client-{host}"))
}

/// A session that sends a KEEPALIVE each second and counts what it is told; [`DEAF`] reads no more after the first one.
async fn client(host: u8, seen: Arc<Seen>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address(host), 0))).unwrap();
    let mut stream = socket.connect(SocketAddr::from(([192, 0, 2, 1], 179))).await.unwrap();
    let open = raw::message(raw::OPEN, &raw::open(4, 65100, HOLD, address(host).octets()));
    stream.write_all(&open).await.unwrap();
    let (mut buffer, mut spoke) = (Vec::with_capacity(1 << 17), Instant::now());
    let mut heard = Instant::now();
    while !seen.stop.load(Ordering::Relaxed) {
        if spoke.elapsed() >= Duration::from_millis(900) {
            spoke = Instant::now();
            if stream.write_all(&raw::message(raw::KEEPALIVE, &[])).await.is_err() && host != DEAF {
                return end(&seen, host, "write");
            }
        }
        if host == DEAF && heard > spoke {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        match tokio::time::timeout(Duration::from_millis(100), stream.read_buf(&mut buffer)).await {
            Err(_) => continue,
            Ok(Ok(1..)) => {}
            Ok(_) => return end(&seen, host, "read"),
        }
        let silence = u64::try_from(heard.elapsed().as_millis()).unwrap();
        heard = Instant::now();
        if host == DEAF {
            answer_open(&mut stream).await;
            // From here on nothing is read.
            heard += Duration::from_secs(100_000);
            continue;
        }
        seen.silence.fetch_max(silence, Ordering::Relaxed);
        take(&mut buffer, &mut stream, &seen.prefixes[usize::from(host - 100)]).await;
    }
}

fn end(seen: &Seen, host: u8, what: &str) {
    if host != DEAF && !seen.stop.load(Ordering::Relaxed) {
        seen.ended.lock().unwrap().push(format!("client {host}: {what}"));
    }
}

async fn answer_open(stream: &mut TcpStream) {
    stream.write_all(&raw::message(raw::KEEPALIVE, &[])).await.unwrap();
}

/// Takes the whole messages out of `buffer`.
async fn take(buffer: &mut Vec<u8>, stream: &mut TcpStream, prefixes: &AtomicU64) {
    let mut at = 0;
    while let Some(header) = buffer.get(at..at + 19) {
        let len = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let Some(message) = buffer.get(at..at + len) else { break };
        match message[18] {
            raw::OPEN => answer_open(stream).await,
            raw::UPDATE => {
                let field = |at: usize| usize::from(u16::from_be_bytes([message[at], message[at + 1]]));
                let attributes = 21 + field(19);
                let nlri = attributes + 2 + field(attributes);
                // Each is a /24.
                prefixes.fetch_add(((len - nlri) / 4) as u64, Ordering::Relaxed);
            }
            _ => {}
        }
        at += len;
    }
    buffer.drain(..at);
}

/// Sends all prefixes as fast as they are taken, and reads what comes back.
pub(super) fn feed(mut stream: std::net::TcpStream) {
    use std::io::Write;
    let mut sink = stream.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()));
    let mut bytes = raw::good_open();
    bytes.extend(raw::message(raw::KEEPALIVE, &[]));
    stream.write_all(&bytes).unwrap();
    for first in (0..PREFIXES).step_by(PER_UPDATE as usize) {
        stream.write_all(&raw::message(raw::UPDATE, &update(first))).unwrap();
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
        if stream.write_all(&raw::message(raw::KEEPALIVE, &[])).is_err() {
            return;
        }
    }
}

/// The body of an UPDATE with [`PER_UPDATE`] /24s of 20.0.0.0/8 and beyond, with an AS_PATH of its own.
fn update(first: u32) -> Vec<u8> {
    let [high, low] = raw::ASN.to_be_bytes();
    let [far_high, far_low] = (1000 + first / PER_UPDATE).to_be_bytes()[2..].try_into().unwrap();
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 2, high, low, far_high, far_low, 0x40, 3, 4];
    attributes.extend(raw::ADDRESS.octets());
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    for n in first..first + PER_UPDATE {
        body.push(24);
        body.extend(&(0x1400_0000 + (n << 8)).to_be_bytes()[..3]);
    }
    body
}
