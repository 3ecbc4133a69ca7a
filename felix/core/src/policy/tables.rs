use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The direction of a connection as seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// Names the ordered list of policies that isolate an endpoint in one direction. Endpoints with the same list (and,
/// for ingress, the same resolution of named ports) share a program. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId(pub u32);

/// Names a class of addresses that the same rule peers (selectors and CIDRs) match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId(pub u32);

impl IdentityId {
    /// Stands in an [`Allow`] for a rule without peers: whoever the other side is.
    pub const ANYONE: IdentityId = IdentityId(0);
}

/// What a local endpoint's interface is programmed with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndpointPrograms {
    /// The addresses that the endpoint may send from, and is reached at.
    pub addresses: BTreeSet<IpAddr>,
    /// The program that isolates it in that direction; without one everything passes.
    pub ingress: Option<ProgramId>,
    pub egress: Option<ProgramId>,
}

/// The protocols that an [`Allow`] lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolMatch {
    /// Every protocol; goes with [`PortMatch::Any`] only.
    Any,
    /// An IP protocol number: 6, 17 or 132 where ports are given.
    Number(u8),
}

/// The destination ports that an [`Allow`] lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortMatch {
    Any,
    One(u16),
    /// Both ends inclusive, the first below the last.
    Range(u16, u16),
}

/// One element of the verdict: connections of `program` to or from `peer` on these ports pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allow {
    pub program: ProgramId,
    pub peer: IdentityId,
    pub protocol: ProtocolMatch,
    pub ports: PortMatch,
}

/// The whole desired state of policy on this node, as tables.
///
/// A new connection is judged so: the interface gives the program (none: it passes); the other side's address gives
/// the identity, by `identities`, else by `ranges`; it passes if `allows` has the program with that identity or with
/// [`IdentityId::ANYONE`] for its protocol and destination port; else it is dropped silently.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyTables {
    /// Local endpoints by host interface. A pod interface that isn't here is dropped, both ways.
    pub endpoints: BTreeMap<String, EndpointPrograms>,
    /// Addresses of known pods that some rule's selector matches; an entry wins over `ranges`.
    pub identities: BTreeMap<IpAddr, IdentityId>,
    /// Address ranges, first address to (last address, identity); disjoint.
    pub ranges: BTreeMap<IpAddr, (IpAddr, IdentityId)>,
    pub allows: BTreeSet<Allow>,
}

/// The difference between two states of [`PolicyTables`]: what `removed` holds goes, then what `added` holds comes.
/// A changed endpoint, identity or range is in both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyChanges {
    pub removed: PolicyTables,
    pub added: PolicyTables,
}

impl PolicyChanges {
    pub fn is_empty(&self) -> bool {
        self.removed == PolicyTables::default() && self.added == PolicyTables::default()
    }
}
