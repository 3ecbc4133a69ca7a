//! Puts the policy tables of felix/core into nftables: one table, few chains, big maps.
//!
//! Chains and rules are fixed; everything that grows with pods, policies and peers is an element of a set or map, so
//! that a packet's cost and a change's cost don't depend on how much there is. See the `skeleton` file for
//! the packet's way.

mod dataplane;
mod entries;
mod host;
mod skeleton;

pub use dataplane::{Applied, PolicyDataplane, PolicyError, Report};
pub use host::HostRules;
pub use skeleton::TABLE;
