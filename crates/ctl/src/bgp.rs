//! Questions to and orders for the speaker.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use margay_local_api::{
    BgpDirection, BgpDone, BgpDrainRequest, BgpNeighbor, BgpPeers, BgpRefreshRequest, BgpResetRequest, BgpRoutes,
    BgpWhy, path, with_query,
};
use margay_net::{Cidr, Family};

use crate::output::{self, Format};
use crate::tor_config::{self, TorConfigArgs};
use crate::{Connection, Failure, OutputArgs};

mod events;
mod neighbor;
mod peers;
mod routes;
mod why;

#[derive(Debug, Subcommand)]
pub(crate) enum BgpCommand {
    /// Shows the peers: state, since when, why not up, prefixes, BFD.
    Peers(OutputArgs),
    /// Shows everything about one peer.
    Neighbor(NeighborArgs),
    /// Shows the routes that the speaker knows, with the reason why a path lost.
    Routes(RoutesArgs),
    /// Explains a prefix: the best path, where the others lost, and why each peer is or isn't told of it.
    Why(WhyArgs),
    /// Shows what happened to the sessions.
    Events(events::EventsArgs),
    /// Has a peer's routes sent again, or ours, without a new session (RFC 2918).
    Refresh(RefreshArgs),
    /// Resets a session: Cease / Administrative Reset, with a text for the peer's operator (RFC 9003).
    Reset(ResetArgs),
    /// Takes a node out of service: its routes carry GRACEFUL_SHUTDOWN (RFC 8326), and are withdrawn later.
    Drain(DrainArgs),
    /// Puts a drained node back into service.
    Undrain(NodeArgs),
    /// Prints the routers' side of the peerings: sessions, filter, limits.
    TorConfig(TorConfigArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NeighborArgs {
    /// The peer's name or address.
    peer: String,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").args(["received", "advertised"]))]
pub(crate) struct RoutesArgs {
    /// One prefix; all where absent.
    prefix: Option<Cidr>,
    /// What this peer announced, as it came.
    #[arg(long, value_name = "PEER")]
    received: Option<String>,
    /// What this peer is told.
    #[arg(long, value_name = "PEER")]
    advertised: Option<String>,
    /// Only paths that take no part in the selection, and why.
    #[arg(long)]
    rejected: bool,
    /// Only prefixes within this one.
    #[arg(long, value_name = "PREFIX")]
    within: Option<Cidr>,
    /// Only one family.
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
    /// At most so many prefixes.
    #[arg(long)]
    limit: Option<usize>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FamilyArg {
    Ipv4,
    Ipv6,
}

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    prefix: Cidr,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    /// The peer's name or address.
    peer: String,
    /// in: the peer sends its routes again; out: ours are sent again; both where absent.
    #[arg(value_enum)]
    direction: Option<DirectionArg>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DirectionArg {
    In,
    Out,
}

#[derive(Debug, Args)]
pub(crate) struct ResetArgs {
    /// The peer's name or address.
    peer: String,
    /// A text that the peer's operator is told.
    #[arg(long)]
    reason: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// When the routes are withdrawn, 60s unless told otherwise; only where the daemon is asked. For a node of the
    /// datastore BGPConfiguration's drainTime counts.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    withdraw_after: Option<Duration>,
}

/// With a datastore (and no --socket) the Node resource says so, and it lasts until undrain; else the daemon is asked, and
/// it lasts until undrain or the daemon's restart.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node, by its name in the datastore; that of this machine's daemon where absent.
    #[arg(long, env = "MARGAY_NODE")]
    node: Option<String>,
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(connection: &Connection, command: &BgpCommand) -> Result<(), Failure> {
    match command {
        BgpCommand::Peers(args) => {
            let view: BgpPeers = connection.daemon().get(path::BGP_PEERS)?;
            show(args.output, &view, || peers::render(&view, args.output))
        }
        BgpCommand::Neighbor(args) => {
            let view: BgpNeighbor =
                connection.daemon().get(&with_query(path::BGP_NEIGHBOR, &[("peer", &args.peer)]))?;
            show(args.output, &view, || neighbor::render(&view))
        }
        BgpCommand::Routes(args) => routes(connection, args),
        BgpCommand::Why(args) => {
            let query = with_query(path::BGP_WHY, &[("prefix", &args.prefix.to_string())]);
            let view: BgpWhy = connection.daemon().get(&query)?;
            show(args.output, &view, || why::render(&view))
        }
        BgpCommand::Events(args) => events::run(connection, args),
        BgpCommand::Refresh(args) => {
            let direction = args.direction.map(|direction| match direction {
                DirectionArg::In => BgpDirection::In,
                DirectionArg::Out => BgpDirection::Out,
            });
            let request = BgpRefreshRequest { peer: args.peer.clone(), direction };
            done(args.output, connection.daemon().post(path::BGP_REFRESH, &request)?)
        }
        BgpCommand::Reset(args) => {
            let request = BgpResetRequest { peer: args.peer.clone(), reason: args.reason.clone() };
            done(args.output, connection.daemon().post(path::BGP_RESET, &request)?)
        }
        BgpCommand::Drain(args) => drain(connection, &args.node, true, args.withdraw_after),
        BgpCommand::Undrain(args) => drain(connection, args, false, None),
        BgpCommand::TorConfig(args) => tor_config::run(connection, args),
    }
}

fn show(format: Format, view: &impl serde::Serialize, render: impl FnOnce() -> String) -> Result<(), Failure> {
    output::machine(format, view).unwrap_or_else(|| output::text(&render()))
}

fn done(format: Format, answer: BgpDone) -> Result<(), Failure> {
    show(format, &answer, || format!("{}\n", answer.done))
}

fn routes(connection: &Connection, args: &RoutesArgs) -> Result<(), Failure> {
    let prefix = args.prefix.map(|prefix| prefix.to_string());
    let within = args.within.map(|prefix| prefix.to_string());
    let limit = args.limit.map(|limit| limit.to_string());
    let family = args.family.map(|family| match family {
        FamilyArg::Ipv4 => Family::V4.to_string(),
        FamilyArg::Ipv6 => Family::V6.to_string(),
    });
    let rejected = args.rejected.then(|| "true".to_owned());
    let pairs = [
        ("prefix", &prefix),
        ("within", &within),
        ("received", &args.received),
        ("advertised", &args.advertised),
        ("rejected", &rejected),
        ("family", &family),
        ("limit", &limit),
    ];
    let pairs: Vec<(&str, &str)> =
        pairs.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect();
    let view: BgpRoutes = connection.daemon().get(&with_query(path::BGP_ROUTES, &pairs))?;
    if let (Some(prefix), true) = (args.prefix, view.routes.is_empty()) {
        let message =
            format!("the speaker has no route for {prefix}; 'margayctl bgp why {prefix}' says what covers it");
        return Err(Failure::Failed(message));
    }
    show(args.output, &view, || routes::render(&view, args.output))
}

/// Drains a node, or ends that.
fn drain(connection: &Connection, args: &NodeArgs, drained: bool, after: Option<Duration>) -> Result<(), Failure> {
    let daemon = connection.daemon();
    if connection.socket.is_none() && connection.datastore.is_some() {
        if after.is_some() {
            let advice = "set BGPConfiguration's drainTime, or name the daemon's --socket";
            return Err(Failure::Usage(format!("--withdraw-after is not a setting of a node: {advice}")));
        }
        let node = match &args.node {
            Some(node) => node.clone(),
            None => daemon.get::<margay_local_api::Status>(path::STATUS)?.node,
        };
        return done(args.output, BgpDone { done: crate::drain::set(connection, &node, drained)? });
    }
    let answer = if drained {
        daemon.post(path::BGP_DRAIN, &BgpDrainRequest { withdraw_after_seconds: after.map(|after| after.as_secs()) })?
    } else {
        daemon.post(path::BGP_UNDRAIN, &BgpDrainRequest::default())?
    };
    done(args.output, answer)
}
