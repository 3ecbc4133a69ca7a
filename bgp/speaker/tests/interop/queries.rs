//! Questions about a table of a million routes, while the speaker has other things to do.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use margay_bgp_speaker::SpeakerHandle;
use margay_bgp_speaker::core::{PeerConfig, PeerName, Rib, RouteFilter, SpeakerConfig};
use margay_net::{Asn, Family};
use socket2::{Domain, Socket, Type};

use super::load::{PREFIXES, feed};
use crate::support::speaker::OurSpeaker;
use crate::support::{Lab, OUR_ASN, raw, so, within};

/// Other work may wait this long; a keepalive, for one, has two seconds.
const WAIT: Duration = if cfg!(debug_assertions) { Duration::from_millis(800) } else { Duration::from_millis(200) };

/// Asks the speaker something small, over and over, and keeps the longest that an answer took.
struct Other {
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Other {
    fn start(handle: SpeakerHandle) -> Other {
        let (longest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (shared, stopped) = (longest.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                runtime.block_on(handle.waits()).unwrap();
                shared.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Other { longest, stop, thread }
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }
}

#[test]
fn questions_about_a_million_routes_let_the_speaker_work_between() {
    let lab = Lab::with_routes(Family::V4, 0);
    lab.theirs.ip(&["address", "add", "192.0.2.100/24", "dev", crate::support::INTERFACE]);
    let mut config = SpeakerConfig::new(Asn(OUR_ASN), [192, 0, 2, 1].into());
    let feeder = PeerName::from("feeder");
    config.peers.insert(feeder.clone(), raw::peer_config());
    let reader = PeerName::from("reader");
    let mut peer = PeerConfig::new([192, 0, 2, 100].into(), Asn(65100));
    peer.passive = true;
    config.peers.insert(reader.clone(), peer);
    let ours = OurSpeaker::start(&lab, config, false);
    within(Duration::from_secs(5), "listening", || {
        let state = ours.handle.listener_state();
        so(state.is_listening() && !state.sockets.is_empty(), || format!("{state:?}"))
    });
    lab.theirs.thread("reader", read).join().unwrap();
    let stream = raw::connect(&lab).unwrap();
    std::thread::spawn(move || feed(stream));
    within(Duration::from_secs(120), "the table is whole, and told", || {
        let told = ours.peer_named("reader").counts[&Family::V4].advertised;
        so(told == PREFIXES as usize, || format!("{told} prefixes"))
    });

    let asks = |what: &str, ask: &dyn Fn() -> usize| {
        let other = Other::start(ours.handle.clone());
        let asked = Instant::now();
        let found = ask();
        let (took, waited) = (asked.elapsed(), other.stop());
        eprintln!("{what}: {found} in {took:.1?}, while other work waited for {waited:?} at most");
        assert!(waited < WAIT, "{what}: {waited:?}");
        found
    };
    let handle = &ours.handle;
    let all = PREFIXES as usize;
    let peers = || {
        let peers = ours.block_on(handle.peers()).unwrap();
        peers.iter().map(|peer| peer.counts[&Family::V4].received).sum()
    };
    assert_eq!(asks("peers", &peers), all);
    assert_eq!(asks("counters", &|| ours.block_on(handle.counters()).unwrap().paths as usize), all);
    // What is shown is let go page by page, as the local API does.
    let count = |filter: RouteFilter| {
        ours.block_on(async {
            let mut pages = handle.pages(filter).await.unwrap();
            let (mut count, mut last) = (0, None);
            while let Some(page) = pages.next().await.unwrap() {
                for route in page {
                    assert!(last < Some(route.prefix), "out of order");
                    last = Some(route.prefix);
                    count += 1;
                }
            }
            count
        })
    };
    assert_eq!(asks("routes", &|| count(RouteFilter::default())), all);
    assert_eq!(asks("the first ten", &|| count(RouteFilter { limit: Some(10), ..RouteFilter::default() })), 10);
    let of = |rib| RouteFilter { rib, ..RouteFilter::default() };
    assert_eq!(asks("received", &|| count(of(Rib::In(feeder.clone())))), all);
    assert_eq!(asks("advertised", &|| count(of(Rib::Out(reader.clone())))), all);
}

/// Has a session that says nothing but KEEPALIVE, and forgets what it is told.
fn read() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([192, 0, 2, 100], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([192, 0, 2, 1], 179)).into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let mut sink = stream.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()));
    stream.write_all(&raw::message(raw::OPEN, &raw::open(4, 65100, 90, [192, 0, 2, 100]))).unwrap();
    std::thread::spawn(move || {
        while stream.write_all(&raw::message(raw::KEEPALIVE, &[])).is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}
