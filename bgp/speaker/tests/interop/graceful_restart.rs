//! RFC 4724 in both roles.

use std::time::Duration;

use margay_bgp_speaker::core::FsmState;
use margay_net::Family;

use crate::support::bird::Bird;
use crate::support::frr::Frr;
use crate::support::peer::{Peer, PeerOptions};
use crate::support::speaker::{OurSpeaker, config};
use crate::support::{Lab, so, within};

#[test]
fn bird_keeps_our_routes_over_a_restart_ipv4() {
    bird_keeps_our_routes_over_a_restart(Family::V4);
}

#[test]
fn bird_keeps_our_routes_over_a_restart_ipv6() {
    bird_keeps_our_routes_over_a_restart(Family::V6);
}

#[test]
fn frr_keeps_our_routes_over_a_restart_ipv4() {
    frr_keeps_our_routes_over_a_restart(Family::V4);
}

#[test]
fn frr_keeps_our_routes_over_a_restart_ipv6() {
    frr_keeps_our_routes_over_a_restart(Family::V6);
}

#[test]
fn birds_routes_are_kept_while_it_restarts() {
    let lab = Lab::new(Family::V4);
    let bird = Bird::start(&lab, &options());
    let ours = OurSpeaker::start(&lab, config(&lab), false);
    ours.wait_established();
    wait_for_routes(&ours, &lab);

    drop(bird);
    within(Duration::from_secs(5), "the paths are stale", || {
        let view = ours.peer();
        so(view.restarting && view.state != FsmState::Established, || format!("{view:?}"))
    });
    let stale = lab.peer_prefixes().len();
    within(Duration::from_secs(5), "felix has the routes as stale", || {
        let routes = ours.fib(|fib| fib.routes.values().filter(|route| route.stale).count());
        so(routes == stale, || format!("{routes} stale routes"))
    });

    let _bird = Bird::recover(&lab, &options());
    within(Duration::from_secs(15), "the restart is over", || {
        let view = ours.peer();
        so(view.established_count == 2 && !view.restarting, || format!("{view:?}"))
    });
    within(Duration::from_secs(5), "felix has the routes as fresh", || {
        let routes = ours.fib(|fib| fib.routes.values().filter(|route| !route.stale).count());
        so(routes == stale, || format!("{routes} fresh routes"))
    });
    assert!(ours.fib(|fib| fib.withdrawn.is_empty()));
}

fn bird_keeps_our_routes_over_a_restart(family: Family) {
    let lab = Lab::new(family);
    let bird = Bird::start(&lab, &options());
    let _ours = restart_between(&lab, &bird, &|| so(bird.log().contains("graceful restart detected"), || bird.log()));
    within(Duration::from_secs(10), "BIRD ends the restart", || {
        so(bird.log().contains("graceful restart done"), || bird.log())
    });
    let removed = format!("margay.{family} > removed");
    let log = bird.log();
    assert!(!log.contains(&removed), "BIRD removed routes: {log}");
}

fn frr_keeps_our_routes_over_a_restart(family: Family) {
    let lab = Lab::new(family);
    let frr = Frr::start(&lab, &options());
    let _ours = restart_between(&lab, &frr, &|| {
        let table = frr.command(&[&format!("show bgp {family} unicast json")])?;
        so(table.contains("\"stale\":true"), || "no stale path".to_owned())
    });
    within(Duration::from_secs(10), "FRR ends the restart", || {
        let table = frr.command(&[&format!("show bgp {family} unicast json")])?;
        so(!table.contains("\"stale\":true"), || "stale paths".to_owned())
    });
    let log = frr.log();
    assert!(!log.contains("withdrawn"), "FRR was sent a withdrawal: {log}");
}

/// Kills our speaker and returns it started again: the peer has all of our routes at every moment, and so has felix.
fn restart_between(lab: &Lab, peer: &dyn Peer, noticed: &dyn Fn() -> Result<(), String>) -> OurSpeaker {
    let all = lab.our_prefixes().len();
    let ours = OurSpeaker::start(lab, config(lab), false);
    ours.wait_established();
    wait_for_routes(&ours, lab);
    within(Duration::from_secs(10), "the peer has our routes", || {
        let received = peer.received()?.len();
        so(received == all, || format!("{received} routes"))
    });

    ours.crash();
    within(Duration::from_secs(5), "the peer knows that we restart", noticed);
    assert_eq!(peer.received().unwrap().len(), all);

    let ours = OurSpeaker::start(lab, config(lab), true);
    within(Duration::from_secs(15), "the session is back", || {
        let received = peer.received()?.len();
        assert_eq!(received, all, "routes went while we restarted");
        let view = ours.peer();
        so(view.state == FsmState::Established, || format!("{view:?}"))
    });
    within(Duration::from_secs(10), "felix has the whole table", || {
        let received = peer.received()?.len();
        assert_eq!(received, all, "routes went while we restarted");
        ours.fib(|fib| {
            so(fib.complete && fib.routes.len() == lab.peer_prefixes().len(), || format!("{} routes", fib.routes.len()))
        })
    });
    assert!(ours.fib(|fib| fib.withdrawn.is_empty()));
    within(Duration::from_secs(10), "our routes are announced again", || {
        let view = ours.peer();
        let advertised = view.counts.get(&lab.family).map_or(0, |counts| counts.advertised);
        so(advertised == all, || format!("{view:?}"))
    });
    ours
}

fn wait_for_routes(ours: &OurSpeaker, lab: &Lab) {
    within(Duration::from_secs(10), "felix has the peer's routes", || {
        ours.fib(|fib| so(fib.routes.len() == lab.peer_prefixes().len(), || format!("{} routes", fib.routes.len())))
    });
}

fn options() -> PeerOptions {
    PeerOptions { graceful_restart: true, ..PeerOptions::default() }
}
