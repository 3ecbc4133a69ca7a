use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::packet::{ControlPacket, Diagnostic, Discriminator, Malformed, State};

/// What a session is between. Where an address or interface is absent, packets with any are its own; the session that
/// names more comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub remote: IpAddr,
    /// RFC 5883, UDP port 4784; else RFC 5881, UDP port 3784.
    pub multihop: bool,
    pub interface: Option<Arc<str>>,
    pub local: Option<IpAddr>,
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        if let Some(interface) = &self.interface {
            write!(f, "%{interface}")?;
        }
        if let Some(local) = &self.local {
            write!(f, " from {local}")?;
        }
        if self.multihop { f.write_str(" (multihop)") } else { Ok(()) }
    }
}

/// How a session is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// The fastest that packets are sent, once the session is up.
    pub min_tx: Duration,
    /// The fastest that packets are taken.
    pub min_rx: Duration,
    /// How many intervals of silence the peer takes for a failure.
    pub multiplier: u8,
    /// The least TTL that a multihop packet may arrive with; over a single hop it is 255 (RFC 5881 section 5).
    pub min_ttl: u8,
    /// Whether this end waits for the peer's first packet (RFC 5880 section 6.1).
    pub passive: bool,
}

/// Why a session can't be had as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    #[error("an interval of {0:?} is not possible: {least:?} to {most:?} are", least = SessionConfig::LEAST, most = SessionConfig::MOST)]
    Interval(Duration),
    #[error("a multiplier of 0 is not possible: it is 1 to 255")]
    Multiplier,
    #[error("a link-local address needs the interface that it is on")]
    LinkLocal,
    #[error("a multihop session has no interface and no link-local address")]
    MultihopInterface,
    #[error("the local address {local} is of another family than the remote one {remote}")]
    Family { local: IpAddr, remote: IpAddr },
}

impl SessionConfig {
    /// The shortest interval that a process which shares its processor can keep.
    pub const LEAST: Duration = Duration::from_millis(10);
    pub const MOST: Duration = Duration::from_secs(60);

    /// Tells what is wrong with a session, if anything is.
    pub fn check(&self, key: &SessionKey) -> Result<(), ConfigProblem> {
        let link_local = matches!(key.remote, IpAddr::V6(address) if address.is_unicast_link_local());
        let bad = |interval: &&Duration| **interval < SessionConfig::LEAST || **interval > SessionConfig::MOST;
        if let Some(interval) = [&self.min_tx, &self.min_rx].into_iter().find(bad) {
            return Err(ConfigProblem::Interval(*interval));
        }
        if self.multiplier == 0 {
            return Err(ConfigProblem::Multiplier);
        }
        if key.multihop && (link_local || key.interface.is_some()) {
            return Err(ConfigProblem::MultihopInterface);
        }
        if link_local && key.interface.is_none() {
            return Err(ConfigProblem::LinkLocal);
        }
        match key.local {
            Some(local) if local.is_ipv4() != key.remote.is_ipv4() => {
                Err(ConfigProblem::Family { local, remote: key.remote })
            }
            _ => Ok(()),
        }
    }
}

/// How a packet came in.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub remote: IpAddr,
    /// The address that it was sent to.
    pub local: IpAddr,
    pub interface: Option<Arc<str>>,
    /// TTL or hop limit; absent where the kernel didn't tell, and then the packet is not trusted.
    pub ttl: Option<u8>,
    /// Whether it came to the port of multihop sessions.
    pub multihop: bool,
}

/// What comes in.
#[derive(Debug)]
pub enum Input<'a> {
    /// The whole set of sessions wanted, applied by difference: sessions that stay keep their state, changed intervals
    /// are negotiated, those that are gone go administratively down before they end. Each must have passed
    /// [`SessionConfig::check`].
    Sessions(BTreeMap<SessionKey, SessionConfig>),
    /// The payload of a UDP datagram.
    Packet { payload: &'a [u8], arrival: Arrival },
}

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A session has begun: packets of it are sent from one port between 49152 and 65535, with TTL 255.
    Opened {
        session: Discriminator,
        key: SessionKey,
    },
    Transmit {
        session: Discriminator,
        packet: [u8; ControlPacket::LEN],
    },
    Event(Box<Event>),
    /// The session is over and its socket may go.
    Closed {
        session: Discriminator,
        key: SessionKey,
    },
}

/// Something about a session that its user wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub session: SessionView,
    pub change: Change,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The state is another; the reason is the view's.
    State { from: State },
    /// The negotiated intervals of a session that is up are others.
    Timers,
    /// The peer says another state, diagnostic or C bit.
    Remote,
}

/// Why a session is in its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was heard yet.
    Created,
    /// The peer is down and hears us: one more packet is needed.
    PeerHeard,
    Established,
    /// Nothing came for the detection time. `late` is how late this process was at its own timers meanwhile.
    DetectionExpired {
        silence: Duration,
        late: Duration,
    },
    /// The peer says that it is down. `late` is the worst lateness of this process in the time in which the peer may
    /// have missed our packets.
    PeerDown {
        diagnostic: Diagnostic,
        late: Duration,
    },
    PeerAdminDown,
    /// The session is wanted no longer.
    Removed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Created => f.write_str("nothing heard from the peer yet"),
            Reason::PeerHeard => f.write_str("the peer is heard; waiting for it to hear this end"),
            Reason::Established => f.write_str("both ends hear each other"),
            Reason::DetectionExpired { silence, late } => {
                write!(f, "detection expired: no packet for {} ms; ", silence.as_millis())?;
                own_lateness(*late, f)
            }
            Reason::PeerDown { diagnostic, late } if *diagnostic == Diagnostic::DETECTION_TIME_EXPIRED => {
                f.write_str("the peer does not hear this end (control detection time expired); ")?;
                own_lateness(*late, f)
            }
            Reason::PeerDown { diagnostic, .. } => write!(f, "the peer signaled down ({diagnostic})"),
            Reason::PeerAdminDown => f.write_str("the peer is administratively down"),
            Reason::Removed => f.write_str("the session is not wanted here"),
        }
    }
}

fn own_lateness(late: Duration, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match late.as_millis() {
        0 => f.write_str("this process itself was on time"),
        ms => write!(f, "this process itself was {ms} ms late"),
    }
}

/// Why a packet was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// A TTL of less than 255 over a single hop, or than the session's minimum over several.
    Ttl,
    Malformed(Malformed),
    /// Your discriminator is of no session here.
    UnknownDiscriminator,
    /// A session's discriminator, but not its port, its interface or, over several hops, its addresses.
    WrongPath,
    /// Your discriminator is 0, and no session is with its sender.
    NoSession,
    /// The session is out of service.
    AdminDown,
}

impl Discard {
    /// A name for tables and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Discard::Ttl => "ttl",
            Discard::Malformed(Malformed::Truncated) => "truncated",
            Discard::Malformed(Malformed::Version) => "version",
            Discard::Malformed(Malformed::Length) => "length",
            Discard::Malformed(Malformed::DetectMultiplier) => "detect_multiplier",
            Discard::Malformed(Malformed::Multipoint) => "multipoint",
            Discard::Malformed(Malformed::MyDiscriminator) => "my_discriminator",
            Discard::Malformed(Malformed::YourDiscriminator) => "your_discriminator",
            Discard::Malformed(Malformed::Authentication) => "authentication",
            Discard::UnknownDiscriminator => "unknown_discriminator",
            Discard::WrongPath => "wrong_path",
            Discard::NoSession => "no_session",
            Discard::AdminDown => "admin_down",
        }
    }
}

impl From<Malformed> for Discard {
    fn from(malformed: Malformed) -> Discard {
        Discard::Malformed(malformed)
    }
}

/// A session as it can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub key: SessionKey,
    pub state: State,
    /// When this state began.
    pub since: SystemTime,
    pub reason: Reason,
    pub diagnostic: Diagnostic,
    pub discriminator: Discriminator,
    /// What the peer said last; `Down` and nothing else before it said anything, and after its silence was noticed.
    pub remote_state: State,
    pub remote_diagnostic: Diagnostic,
    pub remote_discriminator: Option<Discriminator>,
    /// The peer's C bit, of its last packet: its BFD outlives its control plane.
    pub control_plane_independent: bool,
    /// The peer asks for no periodic packets.
    pub remote_demand: bool,
    pub remote_min_tx: Duration,
    pub remote_min_rx: Duration,
    pub remote_multiplier: u8,
    /// How often packets are sent, before jitter: negotiated.
    pub transmit_interval: Duration,
    /// How often the peer sends, before jitter: negotiated. Zero before anything was heard.
    pub receive_interval: Duration,
    /// How long the peer may be silent. Zero before anything was heard.
    pub detection_time: Duration,
    /// Whether a change of intervals waits for the peer's answer.
    pub polling: bool,
    pub received: u64,
    pub sent: u64,
    /// How often the session went from up to down.
    pub flaps: u64,
}
