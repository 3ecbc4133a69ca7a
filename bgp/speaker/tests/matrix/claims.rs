//! Which features there are, and what each peer says of itself.

/// A peer's make, as Debian 12 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Bird,
    Frr,
    Gobgp,
    Openbgpd,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Bird, Kind::Frr, Kind::Gobgp, Kind::Openbgpd];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Bird => "BIRD 2",
            Kind::Frr => "FRR",
            Kind::Gobgp => "GoBGP",
            Kind::Openbgpd => "OpenBGPD",
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    ExternalRoutes,
    InternalRoutes,
    FourOctetAs,
    TwoOctetAs,
    Communities,
    LargeCommunities,
    ExtendedCommunities,
    UnknownAttributes,
    Md5,
    Md5WrongKey,
    Md5KeyChange,
    Gtsm,
    Multihop,
    Passive,
    LocalAs,
    AllowOwnAs,
    Multipath,
    RouteRefresh,
    ReflectToPeer,
    ReflectedByPeer,
    ShutdownTextToPeer,
    ShutdownTextFromPeer,
    AdministrativeReset,
    HoldTimerExpires,
    KeptOverPeersRestart,
    KeptOverOurRestart,
}

impl Feature {
    pub const ALL: [Feature; 26] = [
        Feature::ExternalRoutes,
        Feature::InternalRoutes,
        Feature::FourOctetAs,
        Feature::TwoOctetAs,
        Feature::Communities,
        Feature::LargeCommunities,
        Feature::ExtendedCommunities,
        Feature::UnknownAttributes,
        Feature::Multipath,
        Feature::RouteRefresh,
        Feature::ReflectToPeer,
        Feature::ReflectedByPeer,
        Feature::Md5,
        Feature::Md5WrongKey,
        Feature::Md5KeyChange,
        Feature::Gtsm,
        Feature::Multihop,
        Feature::Passive,
        Feature::LocalAs,
        Feature::AllowOwnAs,
        Feature::ShutdownTextToPeer,
        Feature::ShutdownTextFromPeer,
        Feature::AdministrativeReset,
        Feature::HoldTimerExpires,
        Feature::KeptOverPeersRestart,
        Feature::KeptOverOurRestart,
    ];

    /// In the words of the table.
    pub fn words(self) -> &'static str {
        match self {
            Feature::ExternalRoutes => {
                "eBGP: routes each way with AS_PATH, NEXT_HOP, ORIGIN, MED, and their withdrawal"
            }
            Feature::InternalRoutes => "iBGP: routes each way with LOCAL_PREF",
            Feature::FourOctetAs => "four-octet AS numbers (RFC 6793)",
            Feature::TwoOctetAs => "AS_TRANS and AS4_PATH, where the peer has two-octet AS numbers",
            Feature::Communities => "communities pass through unchanged (RFC 1997)",
            Feature::LargeCommunities => "large communities pass through unchanged (RFC 8092)",
            Feature::ExtendedCommunities => "extended communities pass through unchanged (RFC 4360)",
            Feature::UnknownAttributes => "an unknown transitive attribute passes through, marked as partial",
            Feature::Multipath => "several next hops for a prefix of two peers",
            Feature::RouteRefresh => "the peer asks for our routes again (RFC 2918)",
            Feature::ReflectToPeer => "we reflect, the peer is the client (RFC 4456)",
            Feature::ReflectedByPeer => "the peer reflects, we are the client",
            Feature::Md5 => "TCP-MD5 (RFC 2385)",
            Feature::Md5WrongKey => "TCP-MD5: no session with a wrong key",
            Feature::Md5KeyChange => "TCP-MD5: the key is changed while we run",
            Feature::Gtsm => "GTSM (RFC 5082)",
            Feature::Multihop => "eBGP multihop",
            Feature::Passive => "we wait for the peer's connection",
            Feature::LocalAs => "another AS number for this peer (local-as)",
            Feature::AllowOwnAs => "our AS number in a received path, refused and allowed (allowas-in)",
            Feature::ShutdownTextToPeer => "the peer's operator reads why we stop (RFC 9003)",
            Feature::ShutdownTextFromPeer => "we read why the peer stops",
            Feature::AdministrativeReset => "Administrative Reset, and a new session (RFC 4486)",
            Feature::HoldTimerExpires => "a silent peer is given up, and comes back",
            Feature::KeptOverPeersRestart => "graceful restart of the peer: its routes stay (RFC 4724)",
            Feature::KeptOverOurRestart => "graceful restart of ours: our routes stay at the peer",
        }
    }

    /// Why a peer has no part in it.
    pub fn not_claimed(self, kind: Kind) -> Option<&'static str> {
        match (self, kind) {
            (Feature::KeptOverPeersRestart, Kind::Openbgpd) => {
                Some("announces End-of-RIB alone; bgpd.conf(5), `announce restart`")
            }
            (Feature::ShutdownTextFromPeer, Kind::Bird) => None,
            _ => None,
        }
    }
}
