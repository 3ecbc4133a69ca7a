use std::fmt;

use margay_net::Asn;

use super::context::AfiSafi;

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
            Capability::GracefulRestart(restart) => write!(f, "graceful restart ({} s)", restart.restart_time),
            Capability::FourOctetAsn(asn) => write!(f, "four-octet AS {asn}"),
            Capability::AddPath(_) => f.write_str("additional paths"),
            Capability::EnhancedRouteRefresh => f.write_str("enhanced route refresh"),
            Capability::Unknown { code, .. } => write!(f, "capability {code}"),
        }
    }
}
