use std::collections::{BTreeMap, BTreeSet};

use margay_net::{Cidr, LocalRouteSource};
use serde::Serialize;

/// What an agent holds and what troubles it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FelixStatus {
    /// The datastore's state was told and the kernel follows it.
    pub in_sync: bool,
    /// What the kernel holds, by kind: `workload`, `blackhole`, `bgp`, `neighbour`, `peer` (host routes to BGP peers),
    /// `address` (of the node, on the interfaces of workloads that peer).
    pub routes: BTreeMap<String, u64>,
    /// What others changed and the agent put right since its start, by kind: those of `routes`, `policy` and
    /// `sysctl`.
    pub drift: BTreeMap<String, u64>,
    /// What the speaker was told to announce, and why.
    pub announced: BTreeMap<Cidr, LocalRouteSource>,
    /// What the kernel refuses, in words; tried again until it works.
    pub failures: Vec<String>,
    /// What is asked for and waits for something else to come, in words: a peer's gateway that is on no connected prefix.
    pub waiting: Vec<String>,
    /// The last trouble in words, whether or not it is over.
    pub last_error: Option<String>,
    /// Settings below `/proc/sys` that are not as they should be.
    pub sysctl_problems: BTreeSet<String>,
    /// Why the kernel's policy is not what it should be.
    pub policy_error: Option<String>,
    /// Entries of the policy tables.
    pub policy_elements: u64,
    /// Microseconds that the last policy change took to reach the kernel.
    pub policy_last_change_micros: u64,
    /// How often everything was listed again because events were lost or the kernel's state was in doubt.
    pub resyncs: u64,
}
