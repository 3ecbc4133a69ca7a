//! The ownership guard: who may announce which part of the pools.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use margay_net::{Asn, Cidr, PrefixMap};

use crate::config::OwnershipCheck;
use crate::view::RejectReason;
use crate::wire::Attributes;

/// Who owns which part of the pools, as far as the allocator says. What is not in it is nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ownership {
    /// What is guarded.
    pub pools: BTreeSet<Cidr>,
    /// Blocks, and single addresses that another node than their block's owner uses, each with its owner; outside of the
    /// pools the nodes' own addresses.
    pub owned: BTreeMap<Cidr, Arc<Owner>>,
}

/// A node, as sessions show it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// For messages.
    pub node: String,
    /// The addresses from which it peers.
    pub addresses: BTreeSet<IpAddr>,
    /// What reflectors put into ORIGINATOR_ID for it; where it is absent, no reflected route is known to be its own.
    pub router_id: Option<Ipv4Addr>,
    /// Its AS number, if no other node has the same.
    pub asn: Option<Asn>,
}

/// Who announces a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Announcer {
    pub(crate) check: OwnershipCheck,
    /// The address that the session is with. A router id would not do, since a peer chooses its own.
    pub(crate) address: IpAddr,
}

impl Owner {
    /// Whether a route of the cluster's inside is the node's own: by ORIGINATOR_ID, else by the session's address.
    fn announced(&self, announcer: Announcer, attributes: &Attributes) -> bool {
        match attributes.originator_id {
            Some(originator) => self.router_id == Some(originator),
            None => self.addresses.contains(&announcer.address),
        }
    }
}

/// The table of owners, made ready for use.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    table: Arc<Ownership>,
    pools: PrefixMap<()>,
    owned: PrefixMap<Arc<Owner>>,
    /// Made when a table is first asked about.
    nodes: OnceLock<Nodes>,
}

/// The owners of a table, for messages.
#[derive(Debug, Default)]
struct Nodes {
    by_address: BTreeMap<IpAddr, Arc<Owner>>,
    by_router_id: BTreeMap<Ipv4Addr, Arc<Owner>>,
}

/// The prefixes whose judgement may be another one after a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Affected {
    /// Pools: what lies in them and what covers them.
    pools: BTreeSet<Cidr>,
    /// Owned prefixes: what lies in them.
    owned: PrefixMap<()>,
    /// Nodes' own addresses: what covers them.
    addresses: PrefixMap<()>,
    any: bool,
}

impl Affected {
    pub(crate) fn is_empty(&self) -> bool {
        !self.any
    }

    pub(crate) fn contains(&self, prefix: Cidr) -> bool {
        self.owned.longest_match(prefix).is_some()
            || self.addresses.within(prefix).next().is_some()
            || self.pools.iter().any(|pool| pool.overlaps(prefix))
    }
}

impl Guard {
    /// Takes a whole table and returns what may be judged otherwise by it.
    pub(crate) fn replace(&mut self, table: Arc<Ownership>) -> Affected {
        let old = std::mem::replace(&mut self.table, table);
        self.nodes = OnceLock::new();
        let mut affected = Affected {
            pools: old.pools.symmetric_difference(&self.table.pools).copied().collect(),
            ..Affected::default()
        };
        for &pool in &affected.pools {
            if self.table.pools.contains(&pool) {
                self.pools.insert(pool, ());
            } else {
                self.pools.remove(pool);
            }
        }
        affected.any = !affected.pools.is_empty();
        let mut change = |cidr: Cidr, owner: Option<&Arc<Owner>>| {
            match owner {
                Some(owner) => self.owned.insert(cidr, owner.clone()),
                None => self.owned.remove(cidr),
            };
            affected.owned.insert(cidr, ());
            if cidr.is_host() && self.pools.longest_match(cidr).is_none() {
                affected.addresses.insert(cidr, ());
            }
            affected.any = true;
        };
        // Both are in order, so that one walk finds what differs.
        let (mut before, mut after) = (old.owned.iter().peekable(), self.table.owned.iter().peekable());
        loop {
            match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some((gone, _)), Some((new, _))) if gone == new => {
                    let ((_, was), (cidr, is)) = match (before.next(), after.next()) {
                        (Some(before), Some(after)) => (before, after),
                        _ => break,
                    };
                    if !Arc::ptr_eq(was, is) && was != is {
                        change(*cidr, Some(is));
                    }
                }
                (Some((gone, _)), next) if next.is_none_or(|(new, _)| gone < new) => {
                    change(**gone, None);
                    before.next();
                }
                _ => {
                    if let Some((cidr, owner)) = after.next() {
                        change(*cidr, Some(owner));
                    }
                }
            }
        }
        affected
    }

    /// Judges a route.
    pub(crate) fn judge(
        &self,
        announcer: Announcer,
        prefix: Cidr,
        attributes: &Attributes,
    ) -> Result<(), RejectReason> {
        let check = announcer.check;
        if check == OwnershipCheck::Off {
            return Ok(());
        }
        if check == OwnershipCheck::Node && attributes.originator_id.is_some() {
            return Err(RejectReason::ForgedOriginator);
        }
        if self.pools.longest_match(prefix).is_none() {
            return match check {
                OwnershipCheck::External => Ok(()),
                _ if self.pools.within(prefix).next().is_some() => Err(RejectReason::CoversPool),
                _ if self.others_address(announcer, prefix, attributes).is_some() => Err(RejectReason::NotOwner),
                _ => Ok(()),
            };
        }
        let (owned, owner) = self.owned.longest_match(prefix).ok_or(RejectReason::NotAllocated)?;
        match check {
            OwnershipCheck::Off => Ok(()),
            OwnershipCheck::External if owned != prefix => Err(RejectReason::NotAllocated),
            OwnershipCheck::External => {
                let right = owner.asn.is_none_or(|asn| attributes.as_path.origin_as() == Some(asn));
                if right { Ok(()) } else { Err(RejectReason::WrongOriginAs) }
            }
            OwnershipCheck::Node | OwnershipCheck::Reflector => {
                if owner.announced(announcer, attributes) {
                    Ok(())
                } else {
                    Err(RejectReason::NotOwner)
                }
            }
        }
    }

    /// Finds a node's own address in a prefix outside of the pools, where the route isn't of that node.
    fn others_address(
        &self,
        announcer: Announcer,
        prefix: Cidr,
        attributes: &Attributes,
    ) -> Option<(Cidr, &Arc<Owner>)> {
        let mut addresses = self.owned.within(prefix).filter(|(owned, _)| owned.is_host());
        addresses.find(|(_, owner)| !owner.announced(announcer, attributes))
    }

    /// Says why [`Guard::judge`] rejects a route, with names; `None` for a reason that is another's.
    pub(crate) fn words(
        &self,
        reason: RejectReason,
        announcer: Announcer,
        prefix: Cidr,
        attributes: &Attributes,
    ) -> Option<String> {
        let owner = self.owned.longest_match(prefix);
        Some(match reason {
            RejectReason::NotOwner => {
                let of_pool = self.pools.longest_match(prefix).is_some();
                let (owned, owner) = if of_pool { owner? } else { self.others_address(announcer, prefix, attributes)? };
                let what = match owned == prefix {
                    true if of_pool => "belongs to".to_owned(),
                    true => "is the address of".to_owned(),
                    false if of_pool => format!("lies in {owned}, which belongs to"),
                    false => format!("covers {}, the address of", owned.addr()),
                };
                let by = match attributes.originator_id {
                    Some(originator) => {
                        format!("it comes from ORIGINATOR_ID {originator}{}", self.node_by_id(originator))
                    }
                    None => format!("it comes from {}{}", announcer.address, self.node_by_address(announcer.address)),
                };
                format!("{prefix} {what} node {}, and {by}", owner.node)
            }
            RejectReason::NotAllocated => {
                let (pool, ()) = self.pools.longest_match(prefix)?;
                match owner {
                    Some((owned, owner)) => format!(
                        "{prefix} in pool {pool} is neither a block nor a borrowed address; it lies in {owned} of node {}",
                        owner.node
                    ),
                    None => format!("{prefix} in pool {pool} is neither a block nor a borrowed address of any node"),
                }
            }
            RejectReason::CoversPool => {
                let (pool, ()) = self.pools.within(prefix).next()?;
                format!("{prefix} covers pool {pool}, which only routers outside the cluster may announce")
            }
            RejectReason::ForgedOriginator => {
                let originator = attributes.originator_id?;
                format!("ORIGINATOR_ID {originator} from {}, which is a node and no reflector", announcer.address)
            }
            RejectReason::WrongOriginAs => {
                let (_, owner) = owner?;
                let origin = attributes.as_path.origin_as().map_or("none".to_owned(), |asn| format!("AS {asn}"));
                let right = owner.asn?;
                format!("{prefix} belongs to node {} of AS {right}, and originates in {origin}", owner.node)
            }
            _ => return None,
        })
    }

    fn node_by_address(&self, address: IpAddr) -> String {
        named(self.nodes().by_address.get(&address))
    }

    fn node_by_id(&self, router_id: Ipv4Addr) -> String {
        named(self.nodes().by_router_id.get(&router_id))
    }

    fn nodes(&self) -> &Nodes {
        self.nodes.get_or_init(|| {
            let mut nodes = Nodes::default();
            for owner in self.table.owned.values() {
                let known = owner.addresses.first().and_then(|address| nodes.by_address.get(address));
                if known.is_some_and(|known| Arc::ptr_eq(known, owner)) {
                    continue;
                }
                nodes.by_address.extend(owner.addresses.iter().map(|&address| (address, owner.clone())));
                nodes.by_router_id.extend(owner.router_id.map(|id| (id, owner.clone())));
            }
            nodes
        })
    }
}

fn named(owner: Option<&Arc<Owner>>) -> String {
    owner.map_or_else(String::new, |owner| format!(", node {}", owner.node))
}

#[cfg(test)]
mod tests;
