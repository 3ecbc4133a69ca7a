//! `margayd cleanup`: lists or removes everything of Margay's in the kernel.

use std::io::{self, Write};

use clap::Args;
use margay_felix_agent::policy::PolicyDataplane;
use margay_felix_agent::{BGP_PROTOCOL, BLACKHOLE_PROTOCOL, PEER_PROTOCOL, WORKLOAD_PROTOCOL};
use margay_netlink::nft::NftSocket;
use margay_netlink::rtnl::{RouteChange, RouteFilter, Rtnl};

use crate::Exit;

#[derive(Debug, Args)]
pub(crate) struct CleanupOptions {
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// The name of the table that holds the policy, of family inet.
const TABLE: &str = "margay";

/// `ESRCH` (asm-generic/errno-base.h): the route is gone already.
const GONE: i32 = 3;

/// Removes routes of Margay's protocols and its nftables table, and goes on past what can't be removed. Pods' links
/// stay: they are the runtime's.
pub(crate) fn run(options: &CleanupOptions) -> Result<(), Exit> {
    let failed = |error: &dyn std::fmt::Display| Exit::failed(error.to_string());
    let mut rtnl = Rtnl::open().map_err(|error| failed(&error))?;
    let mut problems = Vec::new();
    for protocol in [WORKLOAD_PROTOCOL, BLACKHOLE_PROTOCOL, BGP_PROTOCOL, PEER_PROTOCOL] {
        let filter = RouteFilter { protocol: Some(protocol), ..RouteFilter::default() };
        for route in rtnl.routes(&filter).map_err(|error| failed(&error))? {
            say(&format!("route {route}"));
            if options.dry_run {
                continue;
            }
            match rtnl.change_route(RouteChange::Delete(route)) {
                Err(error) if error.errno() != Some(GONE) => problems.push(error.to_string()),
                _ => {}
            }
        }
    }
    let table = NftSocket::open().and_then(|mut socket| socket.table(TABLE)).map_err(|error| failed(&error))?;
    if table.is_some() {
        say(&format!("nftables table inet {TABLE}"));
        if !options.dry_run
            && let Err(error) = PolicyDataplane::open().and_then(|mut dataplane| dataplane.remove_all())
        {
            problems.push(error.to_string());
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Exit::failed(problems.join("; "))) }
}

/// Prints a line. A reader that went away must not stop the work.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
