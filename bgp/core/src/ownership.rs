use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_net::{Asn, Cidr};

/// Who owns which part of the pools, as far as the allocator says. What is not in it is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ownership {
    /// What is guarded.
    pub pools: BTreeSet<Cidr>,
    /// Blocks, and single addresses that another node than their block's owner uses, each with its owner.
    pub owned: BTreeMap<Cidr, Arc<Owner>>,
}

/// A node, as sessions show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// For messages.
    pub node: String,
    /// The addresses from which it peers.
    pub addresses: BTreeSet<IpAddr>,
    pub router_id: Option<Ipv4Addr>,
    /// Its AS number, if no other node has the same.
    pub asn: Option<Asn>,
}
