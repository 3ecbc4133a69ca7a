use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use margay_net::{Asn, Cidr, Family};
use serde::{Serialize, Serializer};

use crate::policy::{ExportPolicy, ImportPolicy};

/// The name by which a peer is configured, shown and logged; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// Names a peer.
    pub fn new(name: impl Into<Arc<str>>) -> PeerName {
        PeerName(name.into())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PeerName {
    fn from(name: &str) -> PeerName {
        PeerName(name.into())
    }
}

impl Borrow<str> for PeerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PeerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A TCP-MD5 key (RFC 2385) that neither prints nor serializes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a key.
    pub fn new(key: impl Into<Arc<str>>) -> Secret {
        Secret(key.into())
    }

    /// Returns the key itself, for the socket option.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How the speaker treats several equally good paths, by the kind of session the best one came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multipath {
    /// Most next hops of a route whose best path is eBGP; 1 turns multipath off, as does 0.
    pub ebgp: usize,
    /// Most next hops of a route whose best path is iBGP.
    pub ibgp: usize,
    /// Whether AS paths of equal length may differ in content.
    pub relax_as_path_content: bool,
}

impl Default for Multipath {
    fn default() -> Multipath {
        Multipath { ebgp: 16, ibgp: 16, relax_as_path_content: true }
    }
}

/// Graceful restart (RFC 4724), for the whole speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GracefulRestartConfig {
    /// How long peers should keep our routes while we are away; announced in whole seconds, at most 4095.
    pub restart_time: Duration,
    /// How long after a restart route selection waits for End-of-RIB at most (Selection_Deferral_Timer).
    pub deferral_time: Duration,
    /// How long stale routes are kept at most once a restarting peer is established again.
    pub stale_time: Duration,
}

impl Default for GracefulRestartConfig {
    fn default() -> GracefulRestartConfig {
        GracefulRestartConfig {
            restart_time: Duration::from_secs(120),
            deferral_time: Duration::from_secs(60),
            stale_time: Duration::from_secs(360),
        }
    }
}

/// The steps of the decision process that operators turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionConfig {
    /// LOCAL_PREF of a path without one.
    pub default_local_pref: u32,
    /// Whether MED is compared between paths of different neighbouring AS numbers, too.
    pub always_compare_med: bool,
    /// Whether a path without MED counts as the worst instead of as 0.
    pub med_missing_as_worst: bool,
    /// Whether the length of AS_PATH is left out of the comparison.
    pub ignore_as_path_length: bool,
    /// Whether two eBGP paths that are equal up to there are told apart by router id; where false, the one that came
    /// first stays (RFC 5004).
    pub compare_router_id: bool,
}

impl Default for DecisionConfig {
    fn default() -> DecisionConfig {
        DecisionConfig {
            default_local_pref: 100,
            always_compare_med: false,
            med_missing_as_worst: false,
            ignore_as_path_length: false,
            compare_router_id: true,
        }
    }
}

/// The node goes out of service: every route is announced with GRACEFUL_SHUTDOWN (RFC 8326; LOCAL_PREF 0 to internal
/// peers), and withdrawn later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drain {
    /// From when the drain began to the withdrawal of all routes.
    pub withdraw_after: Duration,
    /// When it began, where that was before this speaker was there; else it begins when it is configured.
    pub began: Option<SystemTime>,
}

/// Peers that need not be named: whoever connects from `prefix` becomes a passive peer made from a template.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenRange {
    pub prefix: Cidr,
    /// Most peers at a time.
    pub limit: usize,
    /// AS numbers that the peer's OPEN may name; empty: that of the template.
    pub asns: BTreeSet<Asn>,
    /// `remote` and `passive` are not looked at. Where it has a password, a configured peer within `prefix` needs one too
    /// to connect, since the kernel demands a signature from every address of the prefix.
    pub template: PeerConfig,
}

/// Bidirectional Forwarding Detection of a session (RFC 5880), multihop where the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BfdConfig {
    /// The interval at which packets are sent at the fastest.
    pub min_tx: Duration,
    /// The interval at which packets are taken at the fastest.
    pub min_rx: Duration,
    /// How many missing packets make the session fail.
    pub multiplier: u8,
}

impl Default for BfdConfig {
    fn default() -> BfdConfig {
        BfdConfig { min_tx: Duration::from_millis(300), min_rx: Duration::from_millis(300), multiplier: 3 }
    }
}

/// Several paths for a prefix in one session (RFC 7911).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddPath {
    pub receive: bool,
    pub send: AddPathSend,
}

/// Which paths are announced beside the best one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AddPathSend {
    #[default]
    None,
    /// The best paths, at most so many.
    Best(u8),
    All,
}

/// A limit on what a peer may announce in a family, counted after RFC 7606's treatment and before policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPrefixes {
    pub limit: u32,
    /// The part of the limit in percent at which an event warns.
    pub warning_percent: u8,
    pub action: MaxPrefixesAction,
}

/// What happens when the limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxPrefixesAction {
    /// Only an event; the routes are taken.
    Warn,
    /// Cease / Maximum Number of Prefixes Reached (RFC 4486), and a new session after this time.
    Restart(Duration),
    /// The same, and no session until an operator resets the peer.
    Hold,
}

/// What becomes of private AS numbers (RFC 6996) in the AS_PATH that an eBGP peer is told, before own ones are put in
/// front. The peer's own number stays, so that it sees its loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub enum RemovePrivateAs {
    #[default]
    Keep,
    /// They are left out.
    Remove,
    /// The own AS number takes their places, so that the length stays.
    Replace,
}

/// What `local_asn` puts into AS_PATH beside the speaker's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub enum LocalAsMode {
    /// Only `local_asn` is told to the peer, and nothing is put before what comes from it (BIRD's and Calico's way).
    #[default]
    Replace,
    /// The peer is told `local_asn` and behind it the speaker's number; what comes from it gets `local_asn` in front.
    Prepend,
}

/// Who may announce which part of the pools to us in this session; see [`crate::Ownership`].
///
/// A prefix that equals a pool counts as one in it. Until the first table of owners came, nothing is refused: a node that
/// boots without its store must not cut itself off. What is away later keeps the last table in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub enum OwnershipCheck {
    #[default]
    Off,
    /// The peer is a node, told by the address it peers from: what is in a pool must be its own block or borrowed address,
    /// or lie in its own block where nobody else has borrowed it. A prefix that covers a pool, the default route included,
    /// is refused, and so are one that is or covers another node's own address, and any route with an ORIGINATOR_ID.
    Node,
    /// The peer is a route reflector of the cluster: what is in a pool must belong to the node that ORIGINATOR_ID names,
    /// or where there is none to the peer, and likewise what is or covers a node's own address. A prefix that covers a
    /// pool is refused.
    Reflector,
    /// The peer is a router: what is in a pool must be allocated exactly so, and come from the owner's AS where that is
    /// known to be the owner's alone. Default routes and prefixes that cover a pool are taken.
    External,
}

/// Everything that is configured.
///
/// It is applied by difference: an unchanged peer keeps its session, a changed policy is evaluated anew on the
/// running session, and what is part of the session (see [`PeerConfig`]) resets that peer alone. A change of `asn`,
/// `router_id` or `graceful_restart` resets every session it concerns.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeakerConfig {
    /// The own AS number, not 0.
    pub asn: Asn,
    /// The BGP identifier (RFC 6286), unique within the AS and not 0.0.0.0.
    pub router_id: Ipv4Addr,
    /// The port that the shell listens on.
    pub listen_port: u16,
    /// No two may have the same address.
    pub peers: BTreeMap<PeerName, PeerConfig>,
    pub multipath: Multipath,
    /// Absent: neither announced nor honoured.
    pub graceful_restart: Option<GracefulRestartConfig>,
    /// The cluster of this route reflector (RFC 4456); the router id where absent.
    pub cluster_id: Option<Ipv4Addr>,
    pub decision: DecisionConfig,
    /// Local addresses to listen on; empty: all.
    pub listen_addresses: BTreeSet<IpAddr>,
    /// Peers made on demand, by the name from which theirs are derived. The longest prefix counts, and a configured peer
    /// comes before all.
    pub listen_ranges: BTreeMap<PeerName, ListenRange>,
    pub drain: Option<Drain>,
}

impl SpeakerConfig {
    /// Makes a configuration without peers that listens on port 179, with graceful restart's defaults.
    pub fn new(asn: Asn, router_id: Ipv4Addr) -> SpeakerConfig {
        SpeakerConfig {
            asn,
            router_id,
            listen_port: 179,
            peers: BTreeMap::new(),
            multipath: Multipath::default(),
            graceful_restart: Some(GracefulRestartConfig::default()),
            cluster_id: None,
            decision: DecisionConfig::default(),
            listen_addresses: BTreeSet::new(),
            listen_ranges: BTreeMap::new(),
            drain: None,
        }
    }
}

/// What NEXT_HOP is announced to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum NextHopMode {
    /// To an iBGP peer the session's own address for local routes, and the next hop as received for learned ones. To an
    /// eBGP peer the session's own address; but where the peer is one hop away, and the next hop of a learned route lies
    /// in the subnet that is shared with the peer, that next hop, so that packets take no detour (RFC 4271 section 5.1.3;
    /// BIRD's and Calico's default). Which subnets are connected is known from felix; as long as it isn't, the own
    /// address is announced.
    #[default]
    Auto,
    /// The session's own address always.
    SelfAddress,
    /// The next hop as received always; local routes have the session's own address.
    Keep,
}

/// One peer.
///
/// A change of what is part of the session resets it: addresses and ports, AS numbers, timers of OPEN, families,
/// ADD-PATH, TTL, password, graceful restart, `route_reflector_client` and `admin_up`. Where both sides agreed on it
/// (RFC 8538) the routes outlive the reset, unless the peer is another one afterwards. Any other change keeps the session.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConfig {
    /// The peer's address: where we connect to, and by which its connections are known.
    pub remote: IpAddr,
    /// The port to connect to.
    pub remote_port: u16,
    /// The peer's AS number. The session is internal where it is the one that the peer sees as ours.
    pub asn: Asn,
    /// The AS number that this peer sees instead of the speaker's own.
    pub local_asn: Option<Asn>,
    /// The address to connect from; connections accepted on another one are refused.
    pub source: Option<IpAddr>,
    /// The interface of a link-local `remote`.
    pub interface: Option<String>,
    /// Whether the speaker only waits for the peer's connection.
    pub passive: bool,
    /// The offered hold time in whole seconds: 0 (never expires) or at least 3.
    pub hold_time: Duration,
    /// The keepalive interval; a third of the negotiated hold time where absent.
    pub keepalive: Option<Duration>,
    /// The longest wait between two attempts to connect; the first ones follow quickly.
    pub connect_retry: Duration,
    /// Address families to offer; empty: the family of `remote`.
    pub families: BTreeSet<Family>,
    /// How often the local AS number may occur in a received AS_PATH.
    pub allow_own_as: u8,
    pub next_hop: NextHopMode,
    /// GTSM (RFC 5082): the number of hops the peer may be away. Packets are sent with TTL 255, and those that
    /// arrive with less than 255 - hops + 1 are dropped by the kernel.
    pub ttl_security: Option<u8>,
    /// Whether an eBGP peer may be more than one hop away. One that is on a link all the same falls with the link.
    pub multihop: bool,
    pub password: Option<Secret>,
    /// Whether routes of internal peers are reflected to this internal one, and its routes to them (RFC 4456).
    pub route_reflector_client: bool,
    /// Whether graceful restart is announced to and honoured for this peer, where the speaker has it at all.
    pub graceful_restart: bool,
    /// Announced instead of the speaker's restart time.
    pub restart_time: Option<Duration>,
    /// Where false, there is no session, and the peer's connections are refused.
    pub admin_up: bool,
    pub description: Option<String>,
    pub export: ExportPolicy,
    pub import: ImportPolicy,
    pub bfd: Option<BfdConfig>,
    pub add_path: AddPath,
    pub max_prefixes: BTreeMap<Family, MaxPrefixes>,
    pub local_as_mode: LocalAsMode,
    /// Whether the peer's own AS number in the AS_PATH that it is told is replaced by ours, so that sites with one AS
    /// number reach each other.
    pub as_override: bool,
    pub remove_private_as: RemovePrivateAs,
    /// Whether the first AS number of what an eBGP peer announces must be its own (RFC 4271 section 6.3); a route server
    /// needs false. What fails is not used, as with treat-as-withdraw (RFC 7606).
    pub enforce_first_as: bool,
    /// How long sending may be blocked (RFC 9687); absent: the greater of 8 minutes and twice the hold time; zero: for
    /// ever.
    pub send_hold_time: Option<Duration>,
    /// Whether routes of an external peer that carry GRACEFUL_SHUTDOWN (RFC 8326) after import policy get LOCAL_PREF 0,
    /// whatever policy sets.
    pub honour_graceful_shutdown: bool,
    /// Whether accepted host routes with BLACKHOLE (RFC 7999) become routes that discard, and that external peers are not
    /// told (section 3.2 there). Where false, or for shorter prefixes, the community means nothing.
    pub honour_blackhole: bool,
    /// Whether this session alone is drained: all routes are announced with GRACEFUL_SHUTDOWN (RFC 8326).
    pub graceful_shutdown: bool,
    pub ownership: OwnershipCheck,
}

impl PeerConfig {
    /// Makes a single-hop peer with the customary timers (hold 90 s), that accepts and announces everything.
    pub fn new(remote: IpAddr, asn: Asn) -> PeerConfig {
        PeerConfig {
            remote,
            remote_port: 179,
            asn,
            local_asn: None,
            source: None,
            interface: None,
            passive: false,
            hold_time: Duration::from_secs(90),
            keepalive: None,
            connect_retry: Duration::from_secs(30),
            families: BTreeSet::new(),
            allow_own_as: 0,
            next_hop: NextHopMode::Auto,
            ttl_security: None,
            multihop: false,
            password: None,
            route_reflector_client: false,
            graceful_restart: true,
            restart_time: None,
            admin_up: true,
            description: None,
            export: ExportPolicy::accept_all(),
            import: ImportPolicy::accept_all(),
            bfd: None,
            add_path: AddPath::default(),
            max_prefixes: BTreeMap::new(),
            local_as_mode: LocalAsMode::default(),
            as_override: false,
            remove_private_as: RemovePrivateAs::default(),
            enforce_first_as: true,
            send_hold_time: None,
            honour_graceful_shutdown: true,
            honour_blackhole: false,
            graceful_shutdown: false,
            ownership: OwnershipCheck::Off,
        }
    }

    /// Returns the families that the session offers.
    pub fn offered_families(&self) -> BTreeSet<Family> {
        if self.families.is_empty() { BTreeSet::from([Family::of(self.remote)]) } else { self.families.clone() }
    }

    /// Returns the AS number that this peer sees as ours.
    pub fn own_asn(&self, speaker: Asn) -> Asn {
        self.local_asn.unwrap_or(speaker)
    }

    /// Whether the session is internal.
    pub fn is_ibgp(&self, speaker: Asn) -> bool {
        self.own_asn(speaker) == self.asn
    }

    /// Whether `self` and `other` make the same session, so that a change from one to the other needs no reset.
    pub(crate) fn same_session(&self, other: &PeerConfig) -> bool {
        let mut like = other.clone();
        like.export = self.export.clone();
        like.import = self.import.clone();
        like.description = self.description.clone();
        like.allow_own_as = self.allow_own_as;
        like.next_hop = self.next_hop;
        like.connect_retry = self.connect_retry;
        like.passive = self.passive;
        like.keepalive = self.keepalive;
        like.bfd = self.bfd;
        like.max_prefixes = self.max_prefixes.clone();
        like.send_hold_time = self.send_hold_time;
        like.graceful_shutdown = self.graceful_shutdown;
        like.local_as_mode = self.local_as_mode;
        like.as_override = self.as_override;
        like.remove_private_as = self.remove_private_as;
        like.enforce_first_as = self.enforce_first_as;
        like.honour_graceful_shutdown = self.honour_graceful_shutdown;
        like.honour_blackhole = self.honour_blackhole;
        like.ownership = self.ownership;
        *self == like
    }

    /// Whether `other` is the same peer in the same role, so that its routes may outlive a reset.
    pub(crate) fn same_peer(&self, other: &PeerConfig) -> bool {
        self.remote == other.remote
            && self.interface == other.interface
            && self.asn == other.asn
            && self.local_asn == other.local_asn
            && self.route_reflector_client == other.route_reflector_client
            && other.graceful_restart
            && other.admin_up
    }
}

/// Why a configuration is refused; the one in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the router id is 0.0.0.0: set it to an IPv4 address of this node")]
    RouterId,
    #[error("AS number 0 is reserved (RFC 7607): set the AS number of {0}")]
    AsnZero(String),
    #[error("peers '{0}' and '{1}' have the same address {2}: keep one of them")]
    SameRemote(PeerName, PeerName, IpAddr),
    #[error("listen ranges '{0}' and '{1}' have the same prefix {2}: keep one of them")]
    SameRange(PeerName, PeerName, Cidr),
    #[error("peer '{peer}': a hold time of {seconds} s is not allowed (RFC 4271 section 4.2): use 0, or 3 to 65535")]
    HoldTime { peer: PeerName, seconds: u64 },
    #[error(
        "peer '{0}': a send hold time that is not greater than the hold time is not allowed (RFC 9687 section 4): \
         make it longer, or 0 for none"
    )]
    SendHoldTime(PeerName),
    #[error("peer '{0}': BFD needs intervals above zero and a multiplier of at least 1 (RFC 5880 section 4.1)")]
    Bfd(PeerName),
    #[error("peer '{0}': the warning of a prefix limit is in percent: use 1 to 100")]
    WarningPercent(PeerName),
}

impl SpeakerConfig {
    /// Checks what the protocol demands of the values.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.router_id.is_unspecified() {
            return Err(ConfigError::RouterId);
        }
        if self.asn.0 == 0 {
            return Err(ConfigError::AsnZero("the speaker".to_owned()));
        }
        let mut remotes: BTreeMap<(IpAddr, Option<&str>), &PeerName> = BTreeMap::new();
        for (name, peer) in &self.peers {
            peer.validate(name)?;
            if let Some(other) = remotes.insert((peer.remote, peer.interface.as_deref()), name) {
                return Err(ConfigError::SameRemote(other.clone(), name.clone(), peer.remote));
            }
        }
        let mut prefixes: BTreeMap<Cidr, &PeerName> = BTreeMap::new();
        for (name, range) in &self.listen_ranges {
            range.template.validate(name)?;
            if let Some(other) = prefixes.insert(range.prefix, name) {
                return Err(ConfigError::SameRange(other.clone(), name.clone(), range.prefix));
            }
            if range.asns.contains(&Asn(0)) {
                return Err(ConfigError::AsnZero(format!("listen range '{name}'")));
            }
        }
        Ok(())
    }
}

impl PeerConfig {
    fn validate(&self, name: &PeerName) -> Result<(), ConfigError> {
        if self.asn.0 == 0 || self.local_asn == Some(Asn(0)) {
            return Err(ConfigError::AsnZero(format!("peer '{name}'")));
        }
        let seconds = self.hold_time.as_secs();
        if (1..3).contains(&seconds) || seconds > 65535 {
            return Err(ConfigError::HoldTime { peer: name.clone(), seconds });
        }
        if self.send_hold_time.is_some_and(|time| !time.is_zero() && time <= self.hold_time) {
            return Err(ConfigError::SendHoldTime(name.clone()));
        }
        let never = |bfd: BfdConfig| bfd.min_tx.is_zero() || bfd.min_rx.is_zero() || bfd.multiplier == 0;
        if self.bfd.is_some_and(never) {
            return Err(ConfigError::Bfd(name.clone()));
        }
        if self.max_prefixes.values().any(|limit| !(1..=100).contains(&limit.warning_percent)) {
            return Err(ConfigError::WarningPercent(name.clone()));
        }
        Ok(())
    }
}
