//! From local endpoints, own blocks, BGP routes and link states to the routes that the kernel should hold.
//!
//! ```text
//!  endpoints, blocks ──┐                       ┌─> kernel changes, in batches
//!  BGP: routes, needs ─┼──> RouteReconciler ───┼─> what the speaker is told, in order with them
//!  links, addresses ───┤    desired - actual   └─> what to look at again
//!  kernel's events ────┘
//! ```

mod announce;
mod desired;
mod failures;
mod fib;
mod for_bgp;
mod host;
mod host_routes;
mod io;
mod kernel;
mod links;
mod local;
mod observed;
mod outcome;
mod plan;
mod reconciler;
mod recursion;
#[cfg(test)]
mod tests;

pub use host_routes::HostRoutes;
pub use io::{
    Counts, Hop, Input, InterfaceAddress, KernelNeighbour, KernelOp, KernelRoute, LinkInfo, LocalEndpoint, Object,
    Output, Refusal, Target,
};
pub use reconciler::{RouteReconciler, RoutesConfig};

/// The `rtm_protocol` of routes to local pods: `10.65.0.1 dev cali... proto 77`.
pub const WORKLOAD: u8 = 77;
/// The `rtm_protocol` of own blocks, which drop what goes to addresses without a pod.
pub const BLACKHOLE: u8 = 78;
/// The `rtm_protocol` of routes that came by BGP.
pub const BGP: u8 = 79;
/// The `rtm_protocol` of host routes to BGP peers by a gateway: `203.0.113.9 via 192.0.2.2 dev eth0 proto 80`.
pub const PEER: u8 = 80;
/// The metric of all of them, as Calico's normal route priority: routes of the host with a lower one win.
pub const METRIC: u32 = 1024;
/// How host interfaces of pods begin, as Calico's do.
pub const POD_INTERFACE_PREFIX: &str = "cali";
