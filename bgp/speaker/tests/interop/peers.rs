//! What must hold with every peer and in each family.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use margay_bgp_speaker::core::{FsmState, PeerName, StopKind};
use margay_net::{Asn, Cidr, Family, FromFelix, LocalRouteChange};

use crate::support::bird::Bird;
use crate::support::frr::Frr;
use crate::support::gobgp::Gobgp;
use crate::support::peer::{Notification, Peer, PeerOptions, Seen};
use crate::support::speaker::{OurSpeaker, PEER, config};
use crate::support::{Lab, OUR_ASN, OUR_COMMUNITY, PEER_ASN, so, within};

type Start = fn(&Lab, &PeerOptions) -> Box<dyn Peer>;

fn bird(lab: &Lab, options: &PeerOptions) -> Box<dyn Peer> {
    Box::new(Bird::start(lab, options))
}

fn frr(lab: &Lab, options: &PeerOptions) -> Box<dyn Peer> {
    Box::new(Frr::start(lab, options))
}

fn gobgp(lab: &Lab, options: &PeerOptions) -> Box<dyn Peer> {
    Box::new(Gobgp::start(lab, options))
}

/// Makes a test of a function for each peer and family.
macro_rules! with_every_peer {
    ($($scenario:ident),* $(,)?) => {$(
        mod $scenario {
            use margay_net::Family;

            #[test]
            fn bird_ipv4() {
                super::$scenario(super::bird, Family::V4);
            }

            #[test]
            fn bird_ipv6() {
                super::$scenario(super::bird, Family::V6);
            }

            #[test]
            fn frr_ipv4() {
                super::$scenario(super::frr, Family::V4);
            }

            #[test]
            fn frr_ipv6() {
                super::$scenario(super::frr, Family::V6);
            }

            #[test]
            fn gobgp_ipv4() {
                super::$scenario(super::gobgp, Family::V4);
            }

            #[test]
            fn gobgp_ipv6() {
                super::$scenario(super::gobgp, Family::V6);
            }
        }
    )*};
}

with_every_peer!(
    routes_arrive_each_way_with_their_attributes_and_are_withdrawn,
    internal_routes_arrive_each_way_with_an_empty_as_path,
    routes_go_when_the_hold_timer_expires,
    a_wrong_as_number_is_refused_as_bad_peer_as,
);

fn routes_arrive_each_way_with_their_attributes_and_are_withdrawn(start: Start, family: Family) {
    let lab = Lab::new(family);
    let mut peer = start(&lab, &PeerOptions::default());
    let ours = OurSpeaker::start(&lab, config(&lab), false);
    let view = ours.wait_established();
    assert_eq!((view.hold_time, view.families), (Some(3), BTreeSet::from([family])));

    let expected = expected_at_peer(&lab);
    within(Duration::from_secs(10), "the peer has our routes", || {
        let received = peer.received()?;
        so(received == expected, || difference(&received, &expected))
    });
    let expected: BTreeSet<Cidr> = lab.peer_prefixes().into_iter().collect();
    within(Duration::from_secs(10), "felix has the peer's routes", || {
        ours.fib(|fib| so(fib.complete && fib.routes.keys().eq(&expected), || format!("{} routes", fib.routes.len())))
    });
    ours.fib(|fib| {
        for route in fib.routes.values() {
            let next_hops: Vec<_> = route.next_hops.iter().map(|next_hop| next_hop.addr).collect();
            assert_eq!((next_hops, route.stale), (vec![lab.peer_address()], false));
        }
    });
    let received = ours.received();
    assert!(received.keys().eq(&expected));
    for attributes in received.values() {
        assert_eq!(attributes.as_path, PEER_ASN.to_string());
        assert_eq!((attributes.next_hop, attributes.med), (Some(lab.peer_address()), Some(77)));
        assert_eq!((attributes.origin.as_str(), attributes.communities.as_slice()), ("egp", &["65001:100".into()][..]));
    }
    let advertised = ours.block_on(ours.handle.advertised(PeerName::from(PEER))).unwrap();
    assert!(advertised.iter().map(|route| route.prefix).eq(lab.our_prefixes().into_iter().collect::<BTreeSet<_>>()));

    peer.withdraw();
    within(Duration::from_secs(10), "the peer's routes are gone", || {
        let left = ours.fib(|fib| fib.routes.len());
        so(left == 0 && ours.received().is_empty(), || format!("{left} routes left"))
    });
    ours.withdraw_ours(&lab);
    within(Duration::from_secs(10), "our routes are gone at the peer", || {
        let left = peer.received()?;
        so(left.is_empty(), || format!("{} routes left", left.len()))
    });
    assert_eq!(ours.peer().established_count, 1);

    ours.stop(StopKind::Administrative(Some("maintenance".to_owned())));
    within(Duration::from_secs(5), "the peer sees Administrative Shutdown", || {
        peer.received_notification(Notification::AdministrativeShutdown)
    });
    peer.process().assert_running();
}

fn internal_routes_arrive_each_way_with_an_empty_as_path(start: Start, family: Family) {
    let lab = Lab::new(family);
    let peer = start(&lab, &PeerOptions { our_asn: PEER_ASN, ..PeerOptions::default() });
    let mut own = config(&lab);
    own.asn = Asn(PEER_ASN);
    let ours = OurSpeaker::start(&lab, own, false);
    assert!(ours.wait_established().ibgp);

    let mut expected = expected_at_peer(&lab);
    expected.values_mut().for_each(|seen| seen.as_path.clear());
    within(Duration::from_secs(10), "the peer has our routes", || {
        let received = peer.received()?;
        so(received == expected, || difference(&received, &expected))
    });
    let expected: BTreeSet<Cidr> = lab.peer_prefixes().into_iter().collect();
    within(Duration::from_secs(10), "felix has the peer's routes", || {
        ours.fib(|fib| so(fib.complete && fib.routes.keys().eq(&expected), || format!("{} routes", fib.routes.len())))
    });
    for attributes in ours.received().values() {
        assert_eq!((attributes.as_path.as_str(), attributes.local_pref), ("", Some(100)));
        assert_eq!((attributes.next_hop, attributes.med), (Some(lab.peer_address()), Some(77)));
    }
}

fn routes_go_when_the_hold_timer_expires(start: Start, family: Family) {
    let lab = Lab::new(family);
    let mut peer = start(&lab, &PeerOptions::default());
    let mut own = config(&lab);
    // Graceful restart would keep the routes.
    own.graceful_restart = None;
    let ours = OurSpeaker::start(&lab, own, false);
    ours.wait_established();
    let count = lab.peer_prefixes().len();
    within(Duration::from_secs(10), "felix has the peer's routes", || {
        let routes = ours.fib(|fib| fib.routes.len());
        so(routes == count, || format!("{routes} routes"))
    });

    let all = lab.our_prefixes().len();
    within(Duration::from_secs(10), "the peer has our routes", || {
        let received = peer.received()?.len();
        so(received == all, || format!("{received} routes"))
    });

    pause_heard_but_silent(&ours, &lab, peer.as_mut());
    within(Duration::from_secs(5), "the hold timer expires", || {
        let view = ours.peer();
        so(view.state != FsmState::Established, || format!("{view:?}"))
    });
    peer.process().resume();
    within(Duration::from_secs(5), "the peer's routes are gone", || {
        ours.fib(|fib| so(fib.withdrawn.len() == count, || format!("{} withdrawn", fib.withdrawn.len())))
    });
    within(Duration::from_secs(20), "the peer sees Hold Timer Expired", || {
        peer.received_notification(Notification::HoldTimerExpired)
    });
}

/// Pauses the peer at a moment when it has heard from us just before, and we from it a while ago: our hold timer then
/// expires first, and the peer still has time to read the NOTIFICATION before its own.
fn pause_heard_but_silent(ours: &OurSpeaker, lab: &Lab, peer: &mut dyn Peer) {
    let mut prefixes = lab.our_prefixes().into_iter();
    let mut heard = (ours.peer().messages_received, Instant::now());
    within(Duration::from_secs(20), "a moment between two keepalives", || {
        let received = ours.peer().messages_received;
        if received != heard.0 {
            heard = (received, Instant::now());
        }
        so(heard.1.elapsed() > Duration::from_millis(600), || "heard".to_owned())?;
        // An UPDATE restarts the peer's timer.
        let sent = ours.peer().messages_sent;
        ours.felix_says(FromFelix::Local(vec![LocalRouteChange::Withdraw(prefixes.next().unwrap())]));
        within(Duration::from_secs(2), "the peer has read the withdrawal", || {
            let view = ours.peer();
            let written = view.messages_sent > sent && view.unsent_bytes == 0;
            so(written && peer.process().has_read_all(), || format!("{view:?}"))
        });
        peer.process().pause();
        if ours.peer().messages_received == heard.0 {
            return Ok(());
        }
        peer.process().resume();
        Err("heard".to_owned())
    });
}

fn a_wrong_as_number_is_refused_as_bad_peer_as(start: Start, family: Family) {
    let lab = Lab::new(family);
    let mut peer = start(&lab, &PeerOptions::default());
    let mut own = config(&lab);
    own.peers.get_mut(PEER).unwrap().asn = Asn(PEER_ASN + 1);
    let ours = OurSpeaker::start(&lab, own, false);
    within(Duration::from_secs(15), "the peer sees Bad Peer AS", || {
        peer.received_notification(Notification::BadPeerAs)
    });
    let view = ours.peer();
    assert_eq!(view.established_count, 0);
    assert!(view.last_error.is_some());
    peer.process().assert_running();
}

fn expected_at_peer(lab: &Lab) -> BTreeMap<Cidr, Seen> {
    let seen = Seen {
        as_path: OUR_ASN.to_string(),
        next_hop: lab.our_address(),
        origin: "igp".to_owned(),
        med: Some(55),
        communities: vec![OUR_COMMUNITY.to_owned()],
    };
    lab.our_prefixes().into_iter().map(|prefix| (prefix, seen.clone())).collect()
}

fn difference(received: &BTreeMap<Cidr, Seen>, expected: &BTreeMap<Cidr, Seen>) -> String {
    let first = received.iter().find(|(prefix, seen)| expected.get(prefix) != Some(seen));
    format!("{} of {} routes; the first other than expected: {first:?}", received.len(), expected.len())
}
