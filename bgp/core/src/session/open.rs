//! What is offered in OPEN, and what both sides agree to.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use margay_net::{Asn, Family};

use crate::wire::{
    AfiSafi, Capability, DecodeContext, GracefulRestart, GracefulRestartFamily, Notification, Open, OpenError,
    PeerKind, encode_open,
};

/// The restart time has twelve bits (RFC 4724 section 3).
const LONGEST_RESTART_TIME: u64 = 4095;

/// Our side of OPEN.
#[derive(Debug, Clone)]
pub(crate) struct LocalOpen {
    pub(crate) asn: Asn,
    pub(crate) router_id: Ipv4Addr,
    /// In seconds.
    pub(crate) hold_time: u16,
    pub(crate) families: BTreeSet<Family>,
    /// Graceful restart is offered, with this time.
    pub(crate) restart_time: Option<Duration>,
    /// The R bit.
    pub(crate) restarting: bool,
    /// The F bit of each family.
    pub(crate) forwarding_preserved: bool,
}

/// Graceful restart as the peer announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerRestart {
    pub(crate) restarting: bool,
    pub(crate) restart_time: Duration,
    pub(crate) families: BTreeSet<Family>,
    /// Those whose forwarding state the peer preserved.
    pub(crate) preserved: BTreeSet<Family>,
}

/// What a session runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) hold_time: Duration,
    pub(crate) keepalive: Duration,
    pub(crate) families: BTreeSet<Family>,
    pub(crate) four_octet: bool,
    pub(crate) router_id: Ipv4Addr,
    pub(crate) graceful_restart: Option<PeerRestart>,
}

/// Why the peer's OPEN is refused, as the NOTIFICATION to send and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenRefused {
    pub(crate) notification: Notification,
    pub(crate) reason: String,
}

impl LocalOpen {
    pub(crate) fn encode(&self) -> Bytes {
        let mut capabilities: Vec<Capability> =
            self.families.iter().map(|&family| Capability::Multiprotocol(family.into())).collect();
        capabilities.push(Capability::RouteRefresh);
        if let Some(restart_time) = self.restart_time {
            let family = |&family: &Family| GracefulRestartFamily {
                family: family.into(),
                forwarding_preserved: self.forwarding_preserved,
            };
            capabilities.push(Capability::GracefulRestart(GracefulRestart {
                restarting: self.restarting,
                notification: false,
                restart_time: restart_time.as_secs().min(LONGEST_RESTART_TIME) as u16,
                families: self.families.iter().map(family).collect(),
            }));
        }
        capabilities.push(Capability::FourOctetAsn(self.asn));
        encode_open(&Open::new(self.asn, self.hold_time, self.router_id, capabilities))
    }

    /// Judges the peer's OPEN (RFC 4271 section 6.2) and finds what both sides can do. `peer_asn` is the configured AS
    /// number, `keepalive` the configured interval.
    pub(crate) fn negotiate(
        &self,
        open: &Open,
        peer_asn: Asn,
        keepalive: Option<Duration>,
    ) -> Result<Negotiated, OpenRefused> {
        let refuse = |error, reason: String| Err(OpenRefused { notification: Notification::open(error), reason });
        if open.asn != peer_asn {
            let reason = format!("the peer's AS number is {}, {peer_asn} is configured", open.asn);
            return refuse(OpenError::BadPeerAs, reason);
        }
        if open.router_id.is_unspecified() {
            return refuse(OpenError::BadBgpIdentifier, "the peer's router id is 0.0.0.0".to_owned());
        }
        if open.router_id == self.router_id && open.asn == self.asn {
            let reason = format!("the peer has our own router id {} (RFC 6286 section 2.2)", self.router_id);
            return refuse(OpenError::BadBgpIdentifier, reason);
        }
        if (1..3).contains(&open.hold_time) {
            let reason = format!("the peer's hold time of {} s is not allowed", open.hold_time);
            return refuse(OpenError::UnacceptableHoldTime, reason);
        }
        let offered = offered_families(open);
        let families: BTreeSet<Family> = self.families.intersection(&offered).copied().collect();
        if families.is_empty() {
            let reason =
                format!("no address family in common: we offer {}, the peer {}", list(&self.families), list(&offered));
            let missing = self.families.iter().flat_map(|&family| multiprotocol(family)).collect::<Vec<_>>();
            let notification = Notification::open(OpenError::UnsupportedCapability).with_data(missing);
            return Err(OpenRefused { notification, reason });
        }
        let hold_time = Duration::from_secs(u64::from(self.hold_time.min(open.hold_time)));
        let third = hold_time / 3;
        Ok(Negotiated {
            hold_time,
            keepalive: keepalive.map_or(third, |keepalive| keepalive.min(third)),
            families,
            four_octet: open.capabilities.iter().any(|known| matches!(known, Capability::FourOctetAsn(_))),
            router_id: open.router_id,
            graceful_restart: self.restart_time.and_then(|_| peer_restart(open)),
        })
    }
}

impl Negotiated {
    /// Returns how messages of the session are read.
    pub(crate) fn context(&self, ibgp: bool) -> DecodeContext {
        DecodeContext {
            add_path: Default::default(),
            four_octet_asn: self.four_octet,
            peer_kind: if ibgp { PeerKind::Internal } else { PeerKind::External },
            families: self.families.iter().copied().collect(),
            extended_next_hop: false,
        }
    }
}

/// A speaker without the multiprotocol capability has IPv4 alone.
fn offered_families(open: &Open) -> BTreeSet<Family> {
    let multiprotocol = |capability: &Capability| match capability {
        Capability::Multiprotocol(family) => Some(family.family()),
        _ => None,
    };
    let mut offered = open.capabilities.iter().filter_map(multiprotocol).peekable();
    if offered.peek().is_none() { BTreeSet::from([Family::V4]) } else { offered.flatten().collect() }
}

fn peer_restart(open: &Open) -> Option<PeerRestart> {
    // The last one counts where there are several (RFC 4724 section 3).
    let restart = open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart(restart) => Some(restart),
        _ => None,
    })?;
    let families = |wanted: fn(&&GracefulRestartFamily) -> bool| {
        restart.families.iter().filter(wanted).filter_map(|announced| announced.family.family()).collect()
    };
    Some(PeerRestart {
        restarting: restart.restarting,
        restart_time: Duration::from_secs(u64::from(restart.restart_time)),
        families: families(|_| true),
        preserved: families(|announced| announced.forwarding_preserved),
    })
}

/// The multiprotocol capability in octets, as the data of Unsupported Capability (RFC 5492 section 5).
fn multiprotocol(family: Family) -> [u8; 6] {
    let AfiSafi { afi, safi } = family.into();
    let [high, low] = afi.to_be_bytes();
    [1, 4, high, low, 0, safi]
}

fn list(families: &BTreeSet<Family>) -> String {
    if families.is_empty() {
        return "none".to_owned();
    }
    families.iter().map(Family::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> LocalOpen {
        LocalOpen {
            asn: Asn(65000),
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            hold_time: 90,
            families: BTreeSet::from([Family::V4]),
            restart_time: Some(Duration::from_secs(120)),
            restarting: false,
            forwarding_preserved: false,
        }
    }

    fn theirs(hold_time: u16, capabilities: Vec<Capability>) -> Open {
        Open::new(Asn(65001), hold_time, Ipv4Addr::new(10, 0, 0, 2), capabilities)
    }

    #[test]
    fn an_unacceptable_open_is_refused_with_the_right_code() {
        let code = |open: &Open, ours: &LocalOpen| {
            let refused = ours.negotiate(open, Asn(65001), None).expect_err("refused");
            (refused.notification.code, refused.notification.subcode)
        };
        let good = theirs(90, vec![]);
        assert_eq!(code(&Open { asn: Asn(65002), ..good.clone() }, &ours()), (2, 2));
        assert_eq!(code(&Open { router_id: Ipv4Addr::UNSPECIFIED, ..good.clone() }, &ours()), (2, 3));
        let twin = Open { router_id: ours().router_id, ..good };
        assert_eq!(code(&twin, &LocalOpen { asn: Asn(65001), ..ours() }), (2, 3));
        assert!(ours().negotiate(&twin, Asn(65001), None).is_ok(), "between ASes ids may be equal");
        assert_eq!(code(&theirs(1, vec![]), &ours()), (2, 6));
        assert_eq!(code(&theirs(2, vec![]), &ours()), (2, 6));
        let only_v6 = theirs(90, vec![Capability::Multiprotocol(AfiSafi::IPV6_UNICAST)]);
        assert_eq!(code(&only_v6, &ours()), (2, 7));
    }

    #[test]
    fn the_shorter_hold_time_wins_and_zero_turns_timers_off() {
        let agree = |hold_time, keepalive| ours().negotiate(&theirs(hold_time, vec![]), Asn(65001), keepalive);
        let agreed = agree(30, None).expect("agreed");
        assert_eq!((agreed.hold_time.as_secs(), agreed.keepalive.as_secs()), (30, 10));
        assert_eq!(agree(300, None).expect("agreed").hold_time.as_secs(), 90);
        let agreed = agree(0, Some(Duration::from_secs(5))).expect("agreed");
        assert!(agreed.hold_time.is_zero() && agreed.keepalive.is_zero());
        assert_eq!(agree(90, Some(Duration::from_secs(5))).expect("agreed").keepalive.as_secs(), 5);
        assert_eq!(agree(90, Some(Duration::from_secs(80))).expect("agreed").keepalive.as_secs(), 30);
    }

    #[test]
    fn graceful_restart_counts_only_where_both_sides_have_it() {
        let restart = Capability::GracefulRestart(GracefulRestart {
            restarting: true,
            restart_time: 60,
            families: vec![GracefulRestartFamily { family: AfiSafi::IPV4_UNICAST, forwarding_preserved: true }],
            ..GracefulRestart::default()
        });
        let open = theirs(90, vec![restart]);
        let agreed = ours().negotiate(&open, Asn(65001), None).expect("agreed").graceful_restart.expect("announced");
        assert!(agreed.restarting && agreed.preserved.contains(&Family::V4));
        let without = LocalOpen { restart_time: None, ..ours() };
        assert_eq!(without.negotiate(&open, Asn(65001), None).expect("agreed").graceful_restart, None);
    }
}
