use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use margay_bgp_speaker::core::wire::Community;
use margay_bgp_speaker::core::{
    AddPath, AddPathSend, Event, EventKind, FsmState, PathView, PeerConfig, PeerName, SpeakerConfig,
};
use margay_net::{Asn, Cidr, Family};
use tokio::sync::broadcast;

use super::cases::{Case, Outcome, Sent, Session};
use crate::matrix::collector::Collector;
use crate::support::exabgp::{Exabgp, Options};
use crate::support::speaker::{OurSpeaker, PEER};
use crate::support::{Lab, PEER_ASN, so, within};

const COLLECTOR_ASN: u32 = 65003;
const SOON: Duration = Duration::from_secs(30);
/// On every route that ExaBGP has from the start.
const AT_FIRST: &str = "65001:1";

/// ExaBGP, our speaker, and a third one that we tell of ExaBGP's routes.
pub struct Place {
    family: Family,
    exabgp: Exabgp,
    collector: Collector,
    ours: OurSpeaker,
    events: broadcast::Receiver<Event>,
    lab: Lab,
}

impl Place {
    /// ExaBGP has a good route for each of `cases`, by their order, and one beside them.
    pub fn new(family: Family, session: Session, cases: &[&Case]) -> Place {
        let lab = Lab::of_three(family, 1);
        let our_asn = session.our_asn();
        let asn = if session == Session::Internal { our_asn } else { PEER_ASN };
        let families = if family == Family::V6 { Family::ALL.to_vec() } else { vec![family] };
        let mut own = SpeakerConfig::new(Asn(our_asn), Ipv4Addr::new(192, 0, 2, 1));
        let mut peer = PeerConfig::new(lab.peer_address(), Asn(asn));
        peer.passive = true;
        peer.families = families.iter().copied().collect();
        peer.graceful_restart = false;
        peer.add_path = AddPath { receive: session == Session::AddPath, send: AddPathSend::None };
        own.peers.insert(PEER.into(), peer);
        let mut third = PeerConfig::new(lab.collector_address(), Asn(COLLECTOR_ASN));
        third.passive = true;
        own.peers.insert("collector".into(), third);
        let ours = OurSpeaker::start(&lab, own, false);
        let events = ours.handle.events().unwrap();
        let collector = Collector::connect(&lab, lab.our_address(), COLLECTOR_ASN, false);

        let mut options = Options {
            asn,
            our_asn,
            router_id: Ipv4Addr::new(192, 0, 2, 2),
            families,
            capabilities: match session {
                Session::AddPath => "add-path send/receive;",
                Session::TwoOctets => "asn4 disable;",
                Session::External | Session::Internal => "",
            },
            routes: Vec::new(),
        };
        if let [Case { sent: Sent::Open { asn, router_id, capabilities }, .. }] = cases {
            options.asn = *asn;
            options.router_id = Ipv4Addr::from(*router_id);
            options.capabilities = capabilities;
        } else {
            let route = |prefix: Cidr, path: &str| {
                format!("route {prefix} next-hop {} {path} community [ {AT_FIRST} ]", lab.peer_address())
            };
            for (index, case) in cases.iter().enumerate() {
                let prefix = prefix(family, index);
                match (session, &case.sent) {
                    (Session::AddPath, Sent::Route(_)) => {
                        options.routes.push(route(prefix, "path-information 1"));
                        options.routes.push(route(prefix, "path-information 2"));
                    }
                    (Session::AddPath, _) => options.routes.push(route(prefix, "path-information 1")),
                    _ => options.routes.push(route(prefix, "")),
                }
            }
        }
        let count = options.routes.len();
        let exabgp = Exabgp::start(&lab, &options);
        let place = Place { family, exabgp, collector, ours, events, lab };
        if count > 0 {
            place.ours.wait_established();
            within(SOON, "ExaBGP's first routes", || {
                let received = place.ours.peer().counts.get(&family).map_or(0, |counts| counts.received);
                so(received == count, || format!("{received} of {count}: {}", place.exabgp.output()))
            });
        }
        place
    }

    /// Has ExaBGP send what the case says, and finds out what became of it.
    pub fn try_case(&mut self, index: usize, case: &Case) -> Outcome {
        match case.outcome {
            Outcome::Established => {
                self.ours.wait_established();
                self.good_route(index);
                Outcome::Established
            }
            Outcome::Reset(..) => {
                self.send(index, case);
                let (code, subcode) = self.reset();
                let expected = format!("notification received ({code},{subcode})");
                within(SOON, "ExaBGP reads why", || {
                    so(self.exabgp.output().contains(&expected), || self.exabgp.output())
                });
                let third = self.ours.peer_named("collector");
                assert_eq!((third.state, third.established_count), (FsmState::Established, 1), "{third:?}");
                Outcome::Reset(code, subcode)
            }
            _ => self.goes_on(index, case),
        }
    }

    /// What became of a case after which the session goes on.
    fn goes_on(&mut self, index: usize, case: &Case) -> Outcome {
        let prefix = prefix(self.family, index);
        let (before, malformed) = (self.paths(prefix), self.ours.peer().malformed_updates);
        assert!(before.iter().all(|path| path.rejected.is_none()), "{before:?}");
        within(SOON, "the third speaker is told the first route", || self.collector.route(prefix));
        self.send(index, case);
        self.good_route(index);
        let view = self.ours.peer();
        assert_eq!(view.established_count, 1, "the session goes on: {view:?}");
        let (after, malformed) = (self.paths(prefix), view.malformed_updates - malformed);
        let rejected = after.iter().find_map(|path| path.rejected);
        if after.len() < before.len() || rejected.is_some() {
            let left = after.iter().any(|path| path.rejected.is_none());
            within(SOON, &format!("{}: the third speaker is told what is left", case.words), || {
                let told = self.collector.route(prefix);
                so(told.is_ok() == left, || format!("{told:?}, where we have {after:?}"))
            });
            return match rejected {
                Some(reason) => Outcome::Unused(reason),
                None => {
                    assert_eq!(malformed, 1, "{}: the route went for another reason", case.words);
                    Outcome::TreatAsWithdraw
                }
            };
        }
        within(SOON, &format!("{}: the third speaker is told what is good", case.words), || {
            let told = self.collector.route(prefix)?;
            // Of two paths it is told the better one, which is the first.
            let is_new = after.len() > before.len() || told.communities != [Community::new(65001, 1)];
            so(is_new && (case.told)(&told), || format!("{told:?}"))
        });
        if after.len() > before.len() {
            assert_eq!(malformed, 0);
            return Outcome::BothTaken;
        }
        let first = |path: &PathView| path.attributes.communities == [AT_FIRST];
        assert!(after.iter().all(|path| !first(path)), "{}: the first route is still there: {after:?}", case.words);
        match malformed {
            0 => Outcome::Taken,
            _ => Outcome::AttributeDiscard,
        }
    }

    fn send(&mut self, index: usize, case: &Case) {
        let (prefix, next_hop) = (prefix(self.family, index), self.lab.peer_address());
        let command = match &case.sent {
            Sent::Route(attributes) => format!("announce route {prefix} next-hop {next_hop} {attributes}"),
            Sent::NextHop([v4, v6]) => {
                let next_hop = if self.family == Family::V4 { v4 } else { v6 };
                format!("announce route {prefix} next-hop {next_hop}")
            }
            Sent::Reach { next_hop, prefix_len } => {
                let IpAddr::V6(network) = prefix.addr() else { panic!("for IPv6 alone") };
                let network: String = network.octets()[..6].iter().map(|octet| format!("{octet:02x}")).collect();
                format!(
                    "announce route 10.51.{index}.0/24 next-hop 192.0.2.2 \
                     attribute [ 0x0e 0x80 0x000201{next_hop}00{prefix_len}{network} ]"
                )
            }
            Sent::SecondPath => {
                format!("announce route {prefix} next-hop {next_hop} path-information 2 med 2")
            }
            Sent::Open { .. } => return,
        };
        self.exabgp.say(&command);
    }

    /// Has ExaBGP announce a good route, which is the last that it says: what it said before has been seen, by us and by
    /// the third speaker.
    fn good_route(&mut self, index: usize) {
        let (good, mark) = (prefix(self.family, 250), 2000 + u32::try_from(index).unwrap());
        let next_hop = self.lab.peer_address();
        self.exabgp.say(&format!("announce route {good} next-hop {next_hop} community [ 65001:{mark} ]"));
        within(SOON, "the good route", || {
            let paths = self.paths(good);
            let is_this = |path: &PathView| path.attributes.communities == [format!("65001:{mark}")];
            so(paths.iter().any(is_this), || format!("{paths:?}, {:?}: {}", self.ours.peer(), self.exabgp.output()))
        });
        within(SOON, "the third speaker is told the good route", || {
            let told = self.collector.route(good)?;
            so(told.communities == [Community::new(65001, mark.try_into().unwrap())], || format!("{told:?}"))
        });
    }

    /// Waits until we end the session; code and subcode of the NOTIFICATION.
    fn reset(&mut self) -> (u8, u8) {
        let mut heard = Vec::new();
        within(SOON, "we end the session", || {
            while let Ok(event) = self.events.try_recv() {
                if let EventKind::NotificationSent(words) = &event.kind
                    && event.peer == Some(PeerName::from(PEER))
                    && let Some(codes) = codes(words)
                {
                    return Ok(codes);
                }
                heard.push(event);
            }
            Err(format!("{heard:?}: {}", self.exabgp.output()))
        })
    }

    /// ExaBGP's paths of a prefix, those that are not used too.
    fn paths(&self, prefix: Cidr) -> Vec<PathView> {
        let routes = self.ours.block_on(self.ours.handle.received(PeerName::from(PEER))).unwrap();
        routes.into_iter().filter(|route| route.prefix == prefix).flat_map(|route| route.paths).collect()
    }
}

/// As in `UPDATE Message Error: Malformed Attribute List (3/1)`.
fn codes(words: &str) -> Option<(u8, u8)> {
    let codes = words.split_once('(')?.1.split_once(')')?.0;
    let (code, subcode) = codes.split_once('/')?;
    Some((code.parse().ok()?, subcode.parse().ok()?))
}

fn prefix(family: Family, index: usize) -> Cidr {
    let text = match family {
        Family::V4 => format!("10.50.{index}.0/24"),
        Family::V6 => format!("fd00:50:{index:x}::/48"),
    };
    text.parse().unwrap()
}
