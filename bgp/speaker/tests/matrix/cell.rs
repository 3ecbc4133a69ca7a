use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use margay_bgp_speaker::core::{PeerConfig, SpeakerConfig};
use margay_net::{Asn, Cidr, Family};

use super::claims::{Feature, Kind};
use super::daemons::Setup;
use super::scenarios::Scenario;
use crate::support::Lab;
use crate::support::speaker::PEER;

/// One scenario with one peer in one family.
pub struct Cell {
    pub scenario: &'static Scenario,
    pub kind: Kind,
    pub family: Family,
    passed: RefCell<BTreeSet<Feature>>,
}

impl Cell {
    pub fn new(scenario: &'static Scenario, kind: Kind, family: Family) -> Cell {
        Cell { scenario, kind, family, passed: RefCell::default() }
    }

    pub fn name(&self) -> String {
        format!("{} {} {}", self.scenario.name, self.kind.name(), self.family)
    }

    /// The features of the scenario that the peer claims.
    pub fn features(&self) -> impl Iterator<Item = Feature> {
        let kind = self.kind;
        self.scenario.features.iter().copied().filter(move |feature| feature.not_claimed(kind).is_none())
    }

    pub fn is_claimed(&self) -> bool {
        self.features().next().is_some()
    }

    /// Whether the peer has a part in a feature.
    pub fn claims(&self, feature: Feature) -> bool {
        feature.not_claimed(self.kind).is_none()
    }

    /// Notes that a feature was seen to work.
    pub fn passed(&self, feature: Feature) {
        assert!(self.scenario.features.contains(&feature), "{feature:?} is none of the scenario's features");
        assert!(self.claims(feature), "{} does not claim {feature:?}", self.kind.name());
        self.passed.borrow_mut().insert(feature);
    }

    pub fn has_passed(&self, feature: Feature) -> bool {
        self.passed.borrow().contains(&feature)
    }

    /// We, the daemon and the collector on one segment, with three routes in each direction.
    pub fn lab(&self) -> Lab {
        Lab::of_three(self.family, 3)
    }

    pub fn setup(&self) -> Setup {
        Setup::new(self.family)
    }

    /// Our side of the session with the daemon.
    pub fn own(&self, lab: &Lab, setup: &Setup) -> SpeakerConfig {
        let mut speaker = SpeakerConfig::new(Asn(setup.our_asn), Ipv4Addr::new(192, 0, 2, 1));
        let mut peer = PeerConfig::new(lab.peer_address(), Asn(setup.peer_asn));
        peer.remote_port = setup.port;
        peer.hold_time = Duration::from_secs(setup.hold_time);
        peer.connect_retry = Duration::from_secs(1);
        peer.password = setup.key.map(margay_bgp_speaker::core::Secret::new);
        peer.ttl_security = setup.ttl_security.then_some(1);
        peer.passive = setup.active;
        speaker.peers.insert(PEER.into(), peer);
        speaker
    }

    /// The collector as a peer of ours, of AS `asn`, that connects to us.
    pub fn collector(&self, lab: &Lab, asn: u32) -> PeerConfig {
        let mut peer = PeerConfig::new(lab.collector_address(), Asn(asn));
        peer.passive = true;
        peer
    }

    /// A prefix that is neither ours nor the daemon's.
    pub fn prefix(&self, number: u8) -> Cidr {
        let text = match self.family {
            Family::V4 => format!("10.50.{number}.0/24"),
            Family::V6 => format!("fd00:50:{number:x}::/48"),
        };
        text.parse().unwrap()
    }
}
