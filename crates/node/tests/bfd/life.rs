//! Sessions with other makes: up, silent, taken away; and with clients and processes that come and go.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use margay_local_api::{BfdRequest, BfdSessionConfig, BfdSessionState, BfdSessionStatus};
use nix::sys::signal::Signal;

use crate::bird::Bird;
use crate::client::{Client, status};
use crate::frr::Frr;
use crate::lab::{INTERFACE, Lab, Process, Way, within};
use crate::margay::Margay;
use crate::peers::{Peer, Seen};

/// How long after the last packet a dead peer may still be believed in, at 3 x 100 ms.
const DETECTED: Duration = Duration::from_millis(400);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn is_down(session: &BfdSessionStatus) -> bool {
    session.state == BfdSessionState::Down
}

/// How long after `start` the session came into its state, by the clock of `margayd bfd`.
fn took(session: &BfdSessionStatus, start: SystemTime) -> Duration {
    (UNIX_EPOCH + Duration::from_millis(session.since_ms)).duration_since(start).unwrap_or_default()
}

#[track_caller]
fn peer_sees(peer: &dyn Peer, limit: Duration, what: &str, is: impl Fn(&Seen) -> bool) -> Duration {
    let start = Instant::now();
    within(limit, what, || {
        let seen = peer.seen()?;
        if is(&seen) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    start.elapsed()
}

/// Both ends come up with the negotiated intervals; the client that said so.
#[track_caller]
fn come_up(lab: &Lab, margay: &Margay, peer: &dyn Peer) -> Client {
    let mut client = margay.attach();
    client.want(&[lab.session()]);
    let session = client.wait_until_settled(300);
    assert_eq!((session.transmit_interval_ms, session.receive_interval_ms), (100, 100), "{session:#?}");
    assert_ne!(session.remote_discriminator, 0);
    assert_eq!((session.remote_state, session.diagnostic.code), (BfdSessionState::Up, 0));
    peer_sees(peer, seconds(5), "the peer sees the session up at 100 ms", |seen| seen.is_up && seen.interval_ms == 100);
    client
}

/// From coming up to the last packet.
pub fn life(lab: &Lab, peer: &dyn Peer) {
    let margay = Margay::start(lab);
    let mut client = come_up(lab, &margay, peer);

    // The peer says nothing any more.
    let start = SystemTime::now();
    peer.process().signal(Signal::SIGSTOP);
    let session = client.wait_for(seconds(3), is_down);
    let took_to_detect = took(&session, start);
    println!("{:?}: silence of the peer detected after {took_to_detect:?}", lab.way);
    assert!(took_to_detect < DETECTED, "{took_to_detect:?}: {session:#?}");
    assert_eq!(session.diagnostic.code, 1, "control detection time expired");
    assert!(session.reason.starts_with("detection expired: no packet for 3"), "{}", session.reason);
    peer.process().signal(Signal::SIGCONT);
    client.wait_until_settled(300);
    peer_sees(peer, seconds(5), "up again", |seen| seen.is_up);

    // We say nothing any more, and learn afterwards that it was us.
    margay.process.signal(Signal::SIGSTOP);
    let noticed = peer_sees(peer, seconds(3), "the peer notices our silence", |seen| !seen.is_up);
    // Asking it takes time as well.
    assert!(noticed < seconds(1), "{noticed:?}");
    margay.process.signal(Signal::SIGCONT);
    let session = client.wait_for(seconds(3), |session| session.state != BfdSessionState::Up);
    assert!(session.late_ms.is_some_and(|late| late >= 150), "{session:#?}");
    assert!(session.reason.contains("this process itself was"), "{}", session.reason);
    client.wait_until_settled(300);
    peer_sees(peer, seconds(5), "up again", |seen| seen.is_up);
    let status = status(&margay.socket);
    assert!(status.lateness.count >= 1 && status.lateness.max_ms >= 150, "{:?}", status.lateness);
    assert_eq!(status.sessions.len(), 1);
    assert!(status.received > 10 && status.sent > 10 && status.state_changes >= 4, "{status:#?}");
    println!("{:?}: {}; {:?}", lab.way, status.scheduling, status.lateness);

    // The session is wanted no longer.
    client.want(&[]);
    peer_sees(peer, DETECTED, "the peer is told at once", |seen| !seen.is_up);
}

/// Either end is taken out of service, which is no failure, and the other one is told.
pub fn administratively_down(lab: &Lab, frr: &Frr) {
    let margay = Margay::start(lab);
    let mut client = come_up(lab, &margay, frr);
    frr.set_shutdown(true);
    let session = client.wait_for(seconds(2), is_down);
    assert_eq!(session.remote_state, BfdSessionState::AdminDown, "{session:#?}");
    assert_eq!(session.reason, "the peer is administratively down");
    frr.set_shutdown(false);
    client.wait_until_settled(300);
    client.want(&[]);
    peer_sees(frr, seconds(2), "our diagnostic 7", |seen| seen.remote_diagnostic.contains("administratively down"));
}

#[test]
fn a_cable_that_is_pulled_is_noticed_and_one_that_is_back_too() {
    let lab = Lab::new(Way::V4);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let mut client = come_up(&lab, &margay, &bird);
    // The far side goes: our end has no carrier, but nobody tells BFD.
    let start = SystemTime::now();
    lab.theirs.run("ip", &["link", "set", INTERFACE, "down"]);
    let session = client.wait_for(seconds(3), is_down);
    let span = took(&session, start);
    println!("a pulled cable is noticed after {span:?}, `ip` included");
    assert!(span < DETECTED + Duration::from_millis(100), "{span:?}");
    lab.theirs.run("ip", &["link", "set", INTERFACE, "up"]);
    client.wait_until_settled(300);
}

#[test]
fn a_killed_peer_is_noticed_and_its_successor_is_found() {
    let lab = Lab::new(Way::V4);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let mut client = come_up(&lab, &margay, &bird);
    let start = SystemTime::now();
    bird.process().signal(Signal::SIGKILL);
    let session = client.wait_for(seconds(3), is_down);
    assert!(took(&session, start) < DETECTED, "{session:#?}");
    let silent = within(seconds(5), "what is wrong is said", || {
        let session = status(&margay.socket).sessions.remove(0);
        if session.send_error.is_empty() { Err(format!("{session:?}")) } else { Ok(session) }
    });
    assert!(silent.send_error.contains("nobody listens on UDP port 3784"), "{}", silent.send_error);
    drop(bird);
    let bird = Bird::start(&lab);
    client.wait_until_settled(300);
    peer_sees(&bird, seconds(5), "up", |seen| seen.is_up);
}

#[test]
fn intervals_change_live_at_either_end() {
    let lab = Lab::new(Way::V4);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let mut client = come_up(&lab, &margay, &bird);
    let slower = BfdSessionConfig { min_tx_ms: 200, min_rx_ms: 300, multiplier: 5, ..lab.session() };
    client.want(&[slower]);
    let session = client.wait_until_settled(900);
    assert_eq!(session.flaps, 0);
    peer_sees(&bird, seconds(5), "BIRD sends as slowly", |seen| seen.is_up && seen.interval_ms == 300);
    client.want(&[lab.session()]);
    client.wait_until_settled(300);
    bird.reconfigure(&lab, 250);
    let session = client.wait_until_settled(750);
    assert_eq!(session.transmit_interval_ms, 250);
    bird.reconfigure(&lab, 50);
    // We take one in 100 ms.
    client.wait_until_settled(300);
    client.must_stay_up(seconds(1));
    assert_eq!(status(&margay.socket).sessions[0].flaps, 0);
    peer_sees(&bird, seconds(1), "up all the time", |seen| seen.is_up);
}

#[test]
fn a_client_that_is_killed_leaves_its_sessions_up() {
    let lab = Lab::new(Way::V4);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let sessions = BfdRequest::Sessions { owner: "test".to_owned(), sessions: vec![lab.session()] };
    // A process of its own, that holds the connection until it is killed.
    let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die; \
                  print $s \"$ARGV[1]\\n$ARGV[2]\\n\"; $s->flush; while (<$s>) { print; }";
    let mut perl = Command::new("perl");
    perl.args(["-e", script]).arg(&margay.socket);
    perl.arg(r#"{"hello":{"version":1,"owner":"test"}}"#).arg(serde_json::to_string(&sessions).unwrap());
    perl.stdin(Stdio::null());
    let mut killed = Process::start(perl, &lab.dir().join("client.out"));
    peer_sees(&bird, seconds(10), "up", |seen| seen.is_up);
    let before = within(seconds(5), "settled", || {
        let session = status(&margay.socket).sessions.remove(0);
        if session.detection_time_ms == 300 { Ok(session) } else { Err(format!("{session:?}")) }
    });
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.wait(seconds(5)), None, "killed by a signal");
    let mut next = margay.connect();
    let snapshot = next.hello();
    assert_eq!(snapshot.len(), 1);
    let is_same = |session: &BfdSessionStatus| {
        (session.state, session.discriminator, session.since_ms)
            == (BfdSessionState::Up, before.discriminator, before.since_ms)
    };
    assert!(is_same(&snapshot[0]), "{snapshot:#?}");
    next.must_stay_up(seconds(1));
    next.want(&[lab.session()]);
    assert!(next.session.as_ref().is_some_and(is_same), "wanting the same changes nothing");
    peer_sees(&bird, seconds(1), "up", |seen| seen.is_up);
}

#[test]
fn a_short_stall_is_no_flap_but_is_counted() {
    let lab = Lab::new(Way::V4);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let session = BfdSessionConfig { multiplier: 20, ..lab.session() };
    let mut client = margay.attach();
    client.want(&[session]);
    client.wait_until_settled(300);
    peer_sees(&bird, seconds(5), "up at 100 ms", |seen| seen.is_up && seen.interval_ms == 100);
    // Longer than our own detection time; the peer bears 2 s of silence, and its packets wait in our socket.
    margay.process.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(700));
    margay.process.signal(Signal::SIGCONT);
    client.must_stay_up(seconds(1));
    let status = status(&margay.socket);
    assert_eq!(status.sessions[0].flaps, 0);
    assert!(status.lateness.count >= 1 && status.lateness.max_ms >= 500, "{:?}", status.lateness);
    assert!(status.lateness.last_at_ms.is_some());
}

#[test]
fn a_process_that_is_ended_says_goodbye_and_the_next_one_gets_the_sessions_up_again() {
    let lab = Lab::new(Way::V4);
    let frr = Frr::start(&lab);
    let mut margay = Margay::start(&lab);
    let client = come_up(&lab, &margay, &frr);
    margay.process.signal(Signal::SIGTERM);
    peer_sees(&frr, seconds(2), "goodbye", |seen| {
        !seen.is_up && seen.remote_diagnostic.contains("administratively down")
    });
    assert_eq!(margay.process.wait(seconds(3)), Some(0));
    drop((client, margay));
    let margay = Margay::start(&lab);
    assert!(margay.connect().hello().is_empty(), "what was wanted is its client's to say again");
    come_up(&lab, &margay, &frr);
}

#[test]
fn a_killed_process_is_noticed_and_the_next_one_takes_its_place() {
    let lab = Lab::new(Way::V4);
    let bird = Bird::start(&lab);
    let margay = Margay::start(&lab);
    let client = come_up(&lab, &margay, &bird);
    margay.process.signal(Signal::SIGKILL);
    peer_sees(&bird, seconds(1), "our end is gone", |seen| !seen.is_up);
    drop((client, margay));
    let margay = Margay::start(&lab);
    come_up(&lab, &margay, &bird);
}

#[test]
fn a_second_one_on_the_machine_is_refused_in_words() {
    let lab = Lab::new(Way::V4);
    let margay = Margay::start(&lab);
    let start = |run: &str| {
        let mut command = lab.ours.command(env!("CARGO_BIN_EXE_margayd"));
        command.arg("bfd").arg("--run").arg(lab.dir().join(run));
        Process::start(command, &lab.dir().join("second.out"))
    };
    let mut same_socket = start("run");
    assert_eq!(same_socket.wait(seconds(5)), Some(1));
    assert!(same_socket.output().contains("another margayd serves"), "{}", same_socket.output());
    let mut same_port = start("other");
    assert_eq!(same_port.wait(seconds(5)), Some(1));
    assert!(same_port.output().contains("UDP port 3784 is taken"), "{}", same_port.output());
    drop(margay);
}

#[test]
fn lines_that_make_no_sense_are_answered_in_words() {
    let lab = Lab::new(Way::V4);
    let margay = Margay::start(&lab);
    let mut client = margay.connect();
    for (line, part) in [
        ("hello", "not a request"),
        (r#"{"hello":{"version":9,"owner":"test"}}"#, "version 9"),
        (r#"{"sessions":{"owner":"test","sessions":[{"id":"x"}]}}"#, "missing field"),
    ] {
        client.say_line(line);
        match client.hear(seconds(5)) {
            Some(margay_local_api::BfdMessage::Error { message }) => assert!(message.contains(part), "{message}"),
            other => panic!("{line}: {other:?}"),
        }
    }
    assert!(client.hello().is_empty());
}
