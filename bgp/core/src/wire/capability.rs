use std::fmt;

use margay_net::Asn;

use super::context::AfiSafi;
use super::words;

/// The capability codes of IANA's registry that the speaker knows.
pub(super) mod code {
    pub(in super::super) const MULTIPROTOCOL: u8 = 1;
    pub(in super::super) const ROUTE_REFRESH: u8 = 2;
    pub(in super::super) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(in super::super) const EXTENDED_MESSAGE: u8 = 6;
    pub(in super::super) const GRACEFUL_RESTART: u8 = 64;
    pub(in super::super) const FOUR_OCTET_ASN: u8 = 65;
    pub(in super::super) const ADD_PATH: u8 = 69;
    pub(in super::super) const ENHANCED_ROUTE_REFRESH: u8 = 70;
}

/// What a speaker can do (RFC 5492).
///
/// One that is unknown, or known but of a wrong form that doesn't change how messages are read, is kept as `Unknown`
/// and so not used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Capability {
    /// RFC 4760.
    Multiprotocol(AfiSafi),
    /// RFC 2918.
    RouteRefresh,
    /// RFC 8950.
    ExtendedNextHop(Vec<ExtendedNextHop>),
    /// RFC 8654.
    ExtendedMessage,
    /// RFC 4724.
    GracefulRestart(GracefulRestart),
    /// RFC 6793.
    FourOctetAsn(Asn),
    /// RFC 7911.
    AddPath(Vec<AddPath>),
    /// RFC 7313.
    EnhancedRouteRefresh,
    Unknown {
        code: u8,
        value: Vec<u8>,
    },
}

/// A family whose routes may have a next hop of another AFI (RFC 8950 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtendedNextHop {
    pub family: AfiSafi,
    pub next_hop_afi: u16,
}

/// Graceful restart as announced (RFC 4724 section 3, RFC 8538 section 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GracefulRestart {
    /// The R bit: the sender has restarted and waits for no one's End-of-RIB to be sent.
    pub restarting: bool,
    /// The N bit: NOTIFICATIONs are followed by graceful restart too.
    pub notification: bool,
    /// In seconds, at most 4095.
    pub restart_time: u16,
    pub families: Vec<GracefulRestartFamily>,
}

/// A family that is kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GracefulRestartFamily {
    pub family: AfiSafi,
    /// The F bit: the sender kept its forwarding state over its last restart.
    pub forwarding_preserved: bool,
}

/// A family in which several paths of a prefix can be sent (RFC 7911 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddPath {
    pub family: AfiSafi,
    pub receive: bool,
    pub send: bool,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::Multiprotocol(family) => write!(f, "{family}"),
            Capability::RouteRefresh => f.write_str("route refresh"),
            Capability::ExtendedNextHop(_) => f.write_str("extended next hop"),
            Capability::ExtendedMessage => f.write_str("extended message"),
            Capability::GracefulRestart(restart) => restart.fmt(f),
            Capability::FourOctetAsn(asn) => write!(f, "four-octet AS {asn}"),
            Capability::AddPath(families) => {
                f.write_str("additional paths")?;
                families.iter().enumerate().try_for_each(|(at, family)| {
                    write!(f, "{} {} {}", if at == 0 { ":" } else { "," }, family.direction(), family.family)
                })
            }
            Capability::EnhancedRouteRefresh => f.write_str("enhanced route refresh"),
            Capability::Unknown { code, .. } => match words::capability(*code) {
                Some(words) => f.write_str(words),
                None => write!(f, "capability {code}"),
            },
        }
    }
}

impl fmt::Display for GracefulRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graceful restart ({} s", self.restart_time)?;
        let flags = [(self.restarting, "restarting"), (self.notification, "notifications too")];
        flags.into_iter().filter(|(set, _)| *set).try_for_each(|(_, words)| write!(f, ", {words}"))?;
        for family in &self.families {
            write!(f, ", {}{}", family.family, if family.forwarding_preserved { " preserved" } else { "" })?;
        }
        f.write_str(")")
    }
}

impl AddPath {
    fn direction(self) -> &'static str {
        match (self.receive, self.send) {
            (true, true) => "both ways",
            (true, false) => "receives",
            (false, true) => "sends",
            (false, false) => "neither way",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_reads_in_words() {
        let restart = GracefulRestart {
            restarting: true,
            notification: true,
            restart_time: 120,
            families: vec![GracefulRestartFamily { family: AfiSafi::IPV4_UNICAST, forwarding_preserved: true }],
        };
        let paths = AddPath { family: AfiSafi::IPV6_UNICAST, receive: true, send: false };
        for (capability, words) in [
            (
                Capability::GracefulRestart(restart),
                "graceful restart (120 s, restarting, notifications too, ipv4 unicast preserved)",
            ),
            (Capability::AddPath(vec![paths]), "additional paths: receives ipv6 unicast"),
            (Capability::Multiprotocol(AfiSafi { afi: 25, safi: 70 }), "AFI 25 SAFI 70"),
            (Capability::Unknown { code: 73, value: vec![] }, "FQDN"),
            (Capability::Unknown { code: 200, value: vec![] }, "capability 200"),
        ] {
            assert_eq!(capability.to_string(), words);
        }
    }
}
