//! What the shell itself promises: the listener, the queue to felix, and turns for everyone.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, SystemTime};

use margay_bgp_speaker::core::{ConfigError, FsmState, NextHopMode, PeerName, StopKind};
use margay_bgp_speaker::{ConfigureError, ListenStatus, SpeakerGone, SpeakerHandle, SpeakerOptions, spawn};
use margay_net::{Family, FibChange};
use tokio::sync::mpsc;

use crate::support::bird::Bird;
use crate::support::peer::{Peer, PeerOptions};
use crate::support::speaker::{OurSpeaker, PEER, config};
use crate::support::{Lab, raw, so, within};

#[test]
fn a_taken_port_hinders_no_outbound_session_and_is_got_when_it_is_free() {
    let lab = Lab::new(Family::V4);
    let _bird = Bird::start(&lab, &PeerOptions::default());
    let occupy = || std::net::TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 179))).unwrap();
    // A socket stays in the namespace that it was made in.
    let occupant = lab.ours.thread("occupant", occupy).join().unwrap();
    let ours = OurSpeaker::start(&lab, config(&lab), false);
    ours.wait_established();
    let state = ours.handle.listener_state();
    assert!(!state.is_listening());
    assert_eq!(state.sockets.len(), 2);
    for socket in &state.sockets {
        let ListenStatus::Failed { reason, .. } = &socket.status else { panic!("{socket} is listening") };
        assert_eq!(reason, "port 179 is taken by another process");
        assert!(socket.to_string().contains("next attempt in"), "{socket}");
    }

    drop(occupant);
    within(Duration::from_secs(10), "the port is got", || {
        let state = ours.handle.listener_state();
        so(state.is_listening(), || format!("{state:?}"))
    });
    assert_eq!(ours.peer().established_count, 1);
}

#[test]
fn an_invalid_configuration_is_refused_and_a_stopped_speaker_says_so() {
    let lab = Lab::new(Family::V4);
    let ours = OurSpeaker::start(&lab, config(&lab), false);
    let mut invalid = config(&lab);
    invalid.router_id = std::net::Ipv4Addr::UNSPECIFIED;
    let refused = ours.block_on(ours.handle.configure(invalid));
    assert_eq!(refused, Err(ConfigureError::Invalid(ConfigError::RouterId)));
    assert_eq!(ours.peer_named(PEER).name.as_str(), PEER);

    ours.block_on(ours.handle.stop(StopKind::Restart));
    ours.block_on(ours.handle.stop(StopKind::Restart));
    assert_eq!(ours.block_on(ours.handle.peers()), Err(SpeakerGone));
    assert_eq!(ours.block_on(ours.handle.configure(config(&lab))), Err(ConfigureError::Gone(SpeakerGone)));
    assert!(ours.handle.events().is_err());
}

#[test]
fn a_stranger_is_closed_without_a_session() {
    let lab = Lab::new(Family::V4);
    let ours = OurSpeaker::start(&lab, config(&lab), false);
    within(Duration::from_secs(5), "listening", || {
        so(ours.handle.listener_state().is_listening(), || "not listening".to_owned())
    });
    within(Duration::from_secs(5), "the end of the stream", || {
        let mut stream = raw::connect(&lab).map_err(|error| error.to_string())?;
        loop {
            match raw::read_message(&mut stream) {
                Ok((kind, _)) => assert_eq!(kind, raw::NOTIFICATION, "a stranger gets no OPEN"),
                Err(error) => return so(error.kind() == std::io::ErrorKind::UnexpectedEof, || error.to_string()),
            }
        }
    });
}

#[test]
fn a_felix_that_does_not_read_holds_up_no_session() {
    let lab = Lab::new(Family::V4);
    let bird = Bird::start(&lab, &PeerOptions::default());
    let own = config(&lab);
    let (started, start) = std::sync::mpsc::channel::<SpeakerHandle>();
    let (read, may_read) = tokio::sync::oneshot::channel::<usize>();
    let speaker = lab.ours.thread("speaker", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (fib, mut batches) = mpsc::channel(1);
            let (handle, task) = spawn(SpeakerOptions { restarting: false, seed: 1 }, fib);
            handle.configure(own).await.unwrap();
            started.send(handle.clone()).unwrap();
            let wanted = may_read.await.unwrap();
            let mut routes = BTreeMap::new();
            while routes.len() < wanted {
                for change in batches.recv().await.unwrap().changes {
                    match change {
                        FibChange::Set(route) => routes.insert(route.prefix, route),
                        FibChange::Withdraw(prefix) => routes.remove(&prefix),
                    };
                }
            }
            handle.stop(StopKind::Restart).await;
            task.await.unwrap();
            routes.len()
        })
    });
    let handle = start.recv().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let peer = || runtime.block_on(handle.peers()).unwrap().remove(0);
    // More batches than the queue takes, and longer than the hold time.
    within(Duration::from_secs(20), "the session outlives its hold time", || {
        let view = peer();
        let age = SystemTime::now().duration_since(view.since).unwrap();
        so(view.state == FsmState::Established && age > Duration::from_millis(4500), || format!("{view:?}"))
    });
    bird.withdraw();
    within(Duration::from_secs(5), "the withdrawals are here", || {
        let received = runtime.block_on(handle.received(PeerName::from(PEER))).unwrap().len();
        so(received == 0, || format!("{received} paths"))
    });
    bird.command("enable announced").unwrap();
    within(Duration::from_secs(5), "the routes are here again", || {
        let received = runtime.block_on(handle.received(PeerName::from(PEER))).unwrap().len();
        so(received == lab.peer_prefixes().len(), || format!("{received} paths"))
    });
    assert_eq!(peer().established_count, 1);
    read.send(lab.peer_prefixes().len()).unwrap();
    assert_eq!(speaker.join().unwrap(), lab.peer_prefixes().len());
}

#[test]
fn a_peer_with_a_hundred_thousand_routes_holds_up_no_other() {
    const UPDATES: u32 = 100;
    const PREFIXES: u32 = 1000;
    let lab = Lab::new(Family::V4);
    let bird = Bird::start(&lab, &PeerOptions::default());
    let mut own = config(&lab);
    own.peers.insert(PeerName::from("raw"), raw::peer_config());
    // The feeder's address is one of BIRD's namespace too, which takes no route through itself.
    own.peers.get_mut(PEER).unwrap().next_hop = NextHopMode::SelfAddress;
    let ours = OurSpeaker::start(&lab, own, false);
    ours.wait_established();

    let mut feeder = within(Duration::from_secs(10), "a connection", || {
        let mut stream = raw::connect(&lab).map_err(|error| error.to_string())?;
        let (kind, _) = raw::read_message(&mut stream).map_err(|error| error.to_string())?;
        so(kind == raw::OPEN, || format!("message type {kind}")).map(|()| stream)
    });
    let mut bytes = raw::good_open();
    bytes.extend(raw::message(raw::KEEPALIVE, &[]));
    for update in 0..UPDATES {
        bytes.extend(raw::message(raw::UPDATE, &update_of(update * PREFIXES, PREFIXES)));
    }
    feeder.write_all(&bytes).unwrap();
    // The feeder is also sent everything, and must not be in the way.
    let mut sink = feeder.try_clone().unwrap();
    std::thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()));

    let all = usize::try_from(UPDATES * PREFIXES).unwrap();
    within(Duration::from_secs(60), "the feeder's routes reach felix", || {
        let routes = ours.fib(|fib| fib.routes.len());
        so(routes == all + lab.peer_prefixes().len(), || format!("{routes} routes"))
    });
    within(Duration::from_secs(60), "the feeder's routes reach BIRD", || {
        let count = bird.command("show route protocol margay count")?;
        let expected = format!("{} of ", all + lab.our_prefixes().len());
        so(count.contains(&expected), || count)
    });
    let view = ours.peer();
    assert_eq!((view.state, view.established_count), (FsmState::Established, 1));
}

#[test]
fn a_speaker_that_stood_still_blames_no_peer_that_went_on() {
    let lab = Lab::new(Family::V4);
    let mut own = config(&lab);
    let mut peer = raw::peer_config();
    peer.hold_time = Duration::from_secs(3);
    own.peers.insert(PeerName::from("raw"), peer);
    let ours = OurSpeaker::start(&lab, own, false);
    let mut stream = within(Duration::from_secs(10), "a connection", || {
        let mut stream = raw::connect(&lab).map_err(|error| error.to_string())?;
        let (kind, _) = raw::read_message(&mut stream).map_err(|error| error.to_string())?;
        so(kind == raw::OPEN, || format!("message type {kind}")).map(|()| stream)
    });
    stream.write_all(&raw::good_open()).unwrap();
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let peer = std::thread::spawn(move || {
        while end.recv_timeout(Duration::from_millis(200)) == Err(RecvTimeoutError::Timeout) {
            stream.write_all(&raw::message(raw::KEEPALIVE, &[])).unwrap();
        }
    });
    within(Duration::from_secs(5), "established", || {
        let view = ours.peer_named("raw");
        so(view.state == FsmState::Established && view.messages_received > 3, || format!("{view:?}"))
    });
    let before = ours.peer_named("raw").messages_received;
    // Longer than the hold time; what the peer said meanwhile waits in the kernel.
    ours.stall(Duration::from_secs(4));
    let view = within(Duration::from_secs(10), "the peer is heard again", || {
        let view = ours.peer_named("raw");
        so(view.messages_received > before + 20, || format!("{view:?}")).map(|()| view)
    });
    assert_eq!((view.state, view.established_count), (FsmState::Established, 1));
    drop(ended);
    peer.join().unwrap();
}

/// The body of an UPDATE (RFC 4271 section 4.3) with `count` host prefixes in 20.0.0.0/8.
fn update_of(first: u32, count: u32) -> Vec<u8> {
    let [high, low] = raw::ASN.to_be_bytes();
    // A client without the four-octet capability speaks of AS numbers in two octets.
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 4, 2, 1, high, low, 0x40, 3, 4];
    attributes.extend(raw::ADDRESS.octets());
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    for n in first..first + count {
        body.push(24);
        body.extend(&(0x1400_0000 + (n << 8)).to_be_bytes()[..3]);
    }
    body
}
