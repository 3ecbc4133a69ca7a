//! From local endpoints, own blocks, BGP routes and link states to the routes that the kernel should hold.
//!
//! ```text
//!  endpoints, blocks ──┐                       ┌─> kernel changes, in batches
//!  BGP routes ─────────┼──> RouteReconciler ───┼─> what the speaker is told, in order with them
//!  links, addresses ───┤    desired - actual   └─> what to look at again
//!  kernel's events ────┘
//! ```

mod announce;
mod failures;
mod fib;
mod host;
mod io;
mod kernel;
mod local;
mod plan;
mod reconciler;
mod recursion;
#[cfg(test)]
mod tests;

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
/// The metric of all of them, as Calico's normal route priority: routes of the host with a lower one win.
pub const METRIC: u32 = 1024;
/// How host interfaces of pods begin, as Calico's do.
pub const POD_INTERFACE_PREFIX: &str = "cali";
