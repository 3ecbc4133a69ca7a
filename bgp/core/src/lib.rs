//! A BGP-4 speaker without IO (RFC 4271): sessions, routing tables, policy and the wire format as values.
//!
//! [`Speaker`] is the whole of it. The caller owns the sockets and the clock:
//!
//! - what came in goes to [`Speaker::handle_input`] as an [`Input`], with the present as a [`margay_net::Now`];
//! - what must go out is taken from [`Speaker::poll_output`] until it answers `None`;
//! - when [`Speaker::poll_timeout`] has passed, [`Speaker::handle_timeout`] is called;
//! - what can be asked are [`Speaker::peers`], [`Speaker::routes`], [`Speaker::advertised`], [`Speaker::received`],
//!   [`Speaker::waits`] and [`Speaker::counters`].

mod config;
mod fsm;
mod io;
mod ownership;
mod policy;
mod rib;
mod session;
mod speaker;
mod view;
pub mod wire;

pub use config::{
    AddPath, AddPathSend, BfdConfig, ConfigError, DecisionConfig, Drain, GracefulRestartConfig, ListenRange,
    LocalAsMode, MaxPrefixes, MaxPrefixesAction, Multipath, NextHopMode, OwnershipCheck, PeerConfig, PeerName,
    RemovePrivateAs, Secret, SpeakerConfig,
};
pub use io::{
    BfdSession, BfdState, ConnectionId, Event, EventKind, Input, ListenPeer, Output, RefreshDirection, ResolvedNextHop,
    StopKind,
};
pub use ownership::{Owner, Ownership};
pub use policy::{
    ExportPolicy, ImportPolicy, PrefixMatch, RouteMatch, RouteOrigin, Rule, RuleAction, RuleSet, SetOperation,
};
pub use speaker::{Options, Speaker};
pub use view::{
    AdvertisementReason, AdvertisementView, AttributesView, BfdView, Counters, DrainView, FsmState, LossReason,
    PathSource, PathView, PeerView, PrefixCounts, RejectReason, Rib, RouteCounts, RouteFilter, RouteView, WaitView,
    WhyView,
};
