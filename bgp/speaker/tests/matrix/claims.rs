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
    RefreshByUs,
    ReflectToPeer,
    ReflectedByPeer,
    ShutdownTextToPeer,
    ShutdownTextFromPeer,
    AdministrativeReset,
    HoldTimerExpires,
    KeptOverPeersRestart,
    KeptOverOurRestart,
    EnhancedRefreshByPeer,
    EnhancedRefreshByUs,
    MaxPrefixes,
    GracefulShutdown,
    AsOverride,
    RemovePrivateAs,
    DynamicNeighbours,
    SendHold,
    NotificationRestart,
    HardResetFromPeer,
    HardResetToPeer,
    AddPathReceived,
    AddPathSent,
    KeptByUs,
    KeptByPeer,
    Blackhole,
    NextHopExternal,
    NextHopInternal,
    MultipathInternal,
    OurChoice,
    PeersChoice,
    SameRouterId,
    SameRouterIdInternal,
    OtherPort,
    SourceAddress,
    HoldTime,
    OurPolicy,
    PeersPolicy,
    MaxPrefixesWarning,
    PeersMaxPrefixes,
}

impl Feature {
    pub const ALL: [Feature; 57] = [
        Feature::ExternalRoutes,
        Feature::InternalRoutes,
        Feature::FourOctetAs,
        Feature::TwoOctetAs,
        Feature::Communities,
        Feature::LargeCommunities,
        Feature::ExtendedCommunities,
        Feature::UnknownAttributes,
        Feature::KeptByUs,
        Feature::KeptByPeer,
        Feature::Blackhole,
        Feature::Multipath,
        Feature::MultipathInternal,
        Feature::OurChoice,
        Feature::PeersChoice,
        Feature::NextHopExternal,
        Feature::NextHopInternal,
        Feature::RouteRefresh,
        Feature::RefreshByUs,
        Feature::EnhancedRefreshByPeer,
        Feature::EnhancedRefreshByUs,
        Feature::AddPathReceived,
        Feature::AddPathSent,
        Feature::ReflectToPeer,
        Feature::ReflectedByPeer,
        Feature::Md5,
        Feature::Md5WrongKey,
        Feature::Md5KeyChange,
        Feature::Gtsm,
        Feature::Multihop,
        Feature::Passive,
        Feature::SourceAddress,
        Feature::OtherPort,
        Feature::HoldTime,
        Feature::SameRouterId,
        Feature::SameRouterIdInternal,
        Feature::DynamicNeighbours,
        Feature::LocalAs,
        Feature::AllowOwnAs,
        Feature::AsOverride,
        Feature::RemovePrivateAs,
        Feature::OurPolicy,
        Feature::PeersPolicy,
        Feature::MaxPrefixes,
        Feature::MaxPrefixesWarning,
        Feature::PeersMaxPrefixes,
        Feature::GracefulShutdown,
        Feature::ShutdownTextToPeer,
        Feature::ShutdownTextFromPeer,
        Feature::AdministrativeReset,
        Feature::HoldTimerExpires,
        Feature::SendHold,
        Feature::KeptOverPeersRestart,
        Feature::KeptOverOurRestart,
        Feature::NotificationRestart,
        Feature::HardResetFromPeer,
        Feature::HardResetToPeer,
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
            Feature::RefreshByUs => "we ask for the peer's routes again",
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
            Feature::EnhancedRefreshByPeer => "the peer refreshes our routes with a beginning and an end (RFC 7313)",
            Feature::EnhancedRefreshByUs => "we refresh the peer's routes with a beginning and an end",
            Feature::MaxPrefixes => {
                "a peer beyond its limit of prefixes is stopped, says so, and comes back when it is raised (RFC 4486)"
            }
            Feature::GracefulShutdown => "GRACEFUL_SHUTDOWN on drain and honoured (RFC 8326)",
            Feature::AsOverride => "the peer's AS number replaced by ours (as-override)",
            Feature::RemovePrivateAs => "private AS numbers left out and replaced",
            Feature::DynamicNeighbours => "a peer of a listen range",
            Feature::SendHold => "a peer that does not read is given up (RFC 9687)",
            Feature::NotificationRestart => "graceful restart after a NOTIFICATION, the N bit (RFC 8538)",
            Feature::HardResetFromPeer => "a Hard Reset of the peer takes its routes",
            Feature::AddPathReceived => "ADD-PATH: we receive several paths of a prefix (RFC 7911)",
            Feature::AddPathSent => "ADD-PATH: we send several paths of a prefix",
            Feature::KeptByUs => {
                "we tell nobody what NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED (RFC 1997) or NO_PEER (RFC 3765) marks"
            }
            Feature::KeptByPeer => "the peer tells nobody what we mark with NO_EXPORT or NO_ADVERTISE",
            Feature::Blackhole => "BLACKHOLE (RFC 7999): the peer's host route discards, and the peer reads it on ours",
            Feature::NextHopExternal => "next hop to an eBGP peer: a third one on the segment, our own, and as it came",
            Feature::NextHopInternal => "next hop to an iBGP peer: as it came, and our own",
            Feature::MultipathInternal => "several next hops for a prefix of two iBGP peers",
            Feature::OurChoice => "we choose by the peer's MED, and by the local preference that a rule sets",
            Feature::PeersChoice => "the peer chooses by our MED, and by the local preference that we tell it",
            Feature::SameRouterId => "a peer with our router id in another AS (RFC 6286)",
            Feature::SameRouterIdInternal => "a peer with our router id in our AS: no session",
            Feature::OtherPort => "a peer on another port",
            Feature::SourceAddress => "an address to connect from",
            Feature::HoldTime => "the lower hold time of the two, whoever's it is",
            Feature::OurPolicy => "RFC 8212: without a policy of ours nothing is taken, and nothing told",
            Feature::PeersPolicy => "RFC 8212: without a policy of the peer's nothing is told, and nothing passed on",
            Feature::MaxPrefixesWarning => "a peer beyond its limit of prefixes, with a warning alone",
            Feature::PeersMaxPrefixes => "we beyond the peer's limit of prefixes: we read why it stops",
            Feature::HardResetToPeer => "a reset by our operator is a Hard Reset",
        }
    }

    /// Why a peer has no part in it.
    pub fn not_claimed(self, kind: Kind) -> Option<&'static str> {
        match (self, kind) {
            (Feature::KeptOverPeersRestart, Kind::Openbgpd) => {
                Some("announces End-of-RIB alone; bgpd.conf(5), `announce restart`")
            }
            (Feature::EnhancedRefreshByPeer | Feature::EnhancedRefreshByUs, Kind::Gobgp) => {
                Some("no enhanced route refresh")
            }
            (Feature::RefreshByUs | Feature::EnhancedRefreshByUs, Kind::Openbgpd) => {
                Some("7.7 answers no request: it takes the family of each for one that was not agreed on")
            }
            (Feature::SendHold, Kind::Gobgp) => Some(
                "no session with a hold time of 0, without which the hold timer is first: its writes time out at once",
            ),
            (Feature::HardResetFromPeer, Kind::Gobgp) => {
                Some("sends a Cease without Hard Reset even when it is shut down")
            }
            (Feature::KeptByPeer, Kind::Gobgp) => Some("well-known communities mean nothing to it without a policy"),
            (Feature::PeersPolicy, Kind::Bird) => Some("its configuration is refused where an eBGP peer has no policy"),
            (Feature::PeersPolicy, Kind::Gobgp) => Some("takes and tells everything without a policy"),
            (
                Feature::NotificationRestart | Feature::HardResetFromPeer | Feature::HardResetToPeer,
                Kind::Bird | Kind::Openbgpd,
            ) => Some("no N bit in its graceful restart capability"),
            _ => None,
        }
    }
}
