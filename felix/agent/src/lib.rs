//! Reconciles the kernel with what felix/core wants: routes, links and policy.
//!
//! ```text
//!   daemon ── ToFelix ──> ┌───────┐ ── routes, neighbours ──> kernel
//!   kernel ── events ───> │ agent │ ── policy tables ───────> kernel
//!                         └───────┘ ── FromFelix ───────────> speaker
//! ```
//!
//! One task owns all of it. It works in the network namespace of the thread that calls [`spawn`]; the runtime's worker
//! threads have to be in the same one.

mod agent;
mod barrier;
mod handle;
mod kernel;
mod policies;
pub mod policy;
mod settings;
mod status;

pub use agent::spawn;
pub use handle::{AgentOptions, FelixHandle, ToFelix};
pub use margay_felix_core::routes::{
    BGP as BGP_PROTOCOL, BLACKHOLE as BLACKHOLE_PROTOCOL, HostRoutes, LocalEndpoint, PEER as PEER_PROTOCOL,
    WORKLOAD as WORKLOAD_PROTOCOL,
};
pub use status::FelixStatus;
