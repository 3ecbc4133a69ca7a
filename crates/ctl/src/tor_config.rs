//! The router's side of a cluster's peerings, in the words of its maker.
//!
//! Routers decide for themselves what they believe; what a node must not announce is refused there or nowhere. The filter
//! takes what a node can own: blocks of the pools' block size, single addresses that it borrowed, its own address, and
//! services; no default, no covering prefix, nothing in between, and nothing that another AS originated.

use clap::{Args, ValueEnum};
use margay_api::kinds::{BgpConfigurationSpec, BgpPeerSpec, IpPoolSpec, NodeSpec};
use margay_api::{Object, Spec};

use crate::{Connection, Failure, output, store};

mod bird;
mod eos;
mod frr;
mod junos;
mod nxos;
mod plan;
mod words;

#[cfg(test)]
mod tests;

use plan::{Resources, Tor};

#[derive(Debug, Args)]
pub(crate) struct TorConfigArgs {
    /// The router's make; sonic is FRR as SONiC has it.
    #[arg(long, value_enum)]
    vendor: Vendor,
    /// Only the sessions of this node.
    #[arg(long)]
    node: Option<String>,
    /// Only the router with this address (a BGPPeer's peerIP); several are put into one configuration.
    #[arg(long)]
    tor: Vec<std::net::IpAddr>,
    /// How many prefixes a node may announce in a family before its session ends.
    #[arg(long, default_value_t = 1000)]
    max_prefixes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vendor {
    Bird,
    Frr,
    Eos,
    Nxos,
    Junos,
    Sonic,
}

pub(crate) fn run(connection: &Connection, args: &TorConfigArgs) -> Result<(), Failure> {
    let datastore = store::open(connection)?;
    let text = store::block_on(async {
        let nodes = objects::<NodeSpec>(&*datastore).await?;
        let peers = objects::<BgpPeerSpec>(&*datastore).await?;
        let pools = objects::<IpPoolSpec>(&*datastore).await?;
        let configs = objects::<BgpConfigurationSpec>(&*datastore).await?;
        let config = configs.into_iter().find(|config| config.name() == "default").map(|config| config.spec);
        let resources = Resources { nodes: &nodes, peers: &peers, pools: &pools, config: &config.unwrap_or_default() };
        print(resources, args).map_err(Failure::Failed)
    })?;
    output::text(&text)
}

async fn objects<S: Spec>(datastore: &dyn margay_datastore::Datastore) -> Result<Vec<Object<S>>, Failure> {
    let (stored, problems) = store::all::<S>(datastore).await?;
    store::fail_with(problems)?;
    Ok(stored.into_iter().map(|stored| stored.object).collect())
}

/// The configuration of every router that is asked for.
fn print(resources: Resources<'_>, args: &TorConfigArgs) -> Result<String, String> {
    let tors = plan::plan(resources, args.node.as_deref(), &args.tor, args.max_prefixes)?;
    let texts: Vec<String> = tors.iter().map(|tor| render(args.vendor, tor)).collect();
    Ok(texts.join("\n"))
}

fn render(vendor: Vendor, tor: &Tor) -> String {
    match vendor {
        Vendor::Bird => bird::render(tor),
        Vendor::Frr => frr::render(tor, false),
        Vendor::Sonic => frr::render(tor, true),
        Vendor::Eos => eos::render(tor),
        Vendor::Nxos => nxos::render(tor),
        Vendor::Junos => junos::render(tor),
    }
}
