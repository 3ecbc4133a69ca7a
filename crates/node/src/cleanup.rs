//! `margayd cleanup`: lists or removes everything of Margay's in the kernel.

use clap::Args;
use margay_felix_agent::policy::PolicyDataplane;
use margay_felix_agent::{BGP_PROTOCOL, BLACKHOLE_PROTOCOL, WORKLOAD_PROTOCOL};
use margay_netlink::rtnl::{RouteChange, RouteFilter, Rtnl};

use crate::Exit;

#[derive(Debug, Args)]
pub(crate) struct CleanupOptions {
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Removes routes of Margay's protocols and its nftables table. Pods' links stay: they are the runtime's.
pub(crate) fn run(options: &CleanupOptions) -> Result<(), Exit> {
    let failed = |error: &dyn std::fmt::Display| Exit::failed(error.to_string());
    let mut rtnl = Rtnl::open().map_err(|error| failed(&error))?;
    for protocol in [WORKLOAD_PROTOCOL, BLACKHOLE_PROTOCOL, BGP_PROTOCOL] {
        let filter = RouteFilter { protocol: Some(protocol), ..RouteFilter::default() };
        for route in rtnl.routes(&filter).map_err(|error| failed(&error))? {
            println!("route {route}");
            if !options.dry_run {
                rtnl.change_route(RouteChange::Delete(route)).map_err(|error| failed(&error))?;
            }
        }
    }
    println!("nftables table inet margay");
    if !options.dry_run {
        PolicyDataplane::open().and_then(|mut dataplane| dataplane.remove_all()).map_err(|error| failed(&error))?;
    }
    Ok(())
}
