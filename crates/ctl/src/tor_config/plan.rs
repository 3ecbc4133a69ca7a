//! From resources to what a router has to be told, whatever its make.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use margay_api::kinds::{BgpConfigurationSpec, BgpPeer, IpPool, Node, NodeSpec, SourceAddress};
use margay_api::selector::Selector;
use margay_net::{Asn, Cidr, Family};

/// What decides over the routers' side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resources<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) peers: &'a [BgpPeer],
    pub(super) pools: &'a [IpPool],
    /// The object named `default`, or Calico's defaults.
    pub(super) config: &'a BgpConfigurationSpec,
}

/// One router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tor {
    /// Its addresses in these sessions.
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) asn: Asn,
    pub(super) sessions: Vec<Session>,
    /// What is taken, by family, in order.
    pub(super) accepted: BTreeMap<Family, Vec<Accepted>>,
    /// The AS numbers of external nodes.
    pub(super) node_asns: BTreeSet<Asn>,
    pub(super) max_prefixes: u32,
}

/// A session with a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) node: String,
    /// The BGPPeer that makes it.
    pub(super) peer: String,
    pub(super) address: IpAddr,
    /// Whether the node may come from another address than this, since it peers from that of the link.
    pub(super) address_is_a_guess: bool,
    /// Whether the node's address is on a link of the router's, so that no hop lies between.
    pub(super) on_link: bool,
    pub(super) asn: Asn,
    pub(super) tor: IpAddr,
    /// The port that the node listens on.
    pub(super) port: u16,
    /// The secret with the TCP-MD5 key, as `NAME/KEY`.
    pub(super) password: Option<String>,
    pub(super) ttl_security: Option<u8>,
    pub(super) hold_time: u64,
    pub(super) keepalive: u64,
    pub(super) bfd: Option<Bfd>,
    pub(super) families: BTreeSet<Family>,
}

/// BFD as the node has it: intervals in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bfd {
    pub(super) min_tx: u128,
    pub(super) min_rx: u128,
    pub(super) multiplier: u8,
}

/// Prefixes that are taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) within: Cidr,
    pub(super) min_len: u8,
    pub(super) max_len: u8,
    pub(super) why: String,
}

impl Tor {
    pub(super) fn is_internal(&self, session: &Session) -> bool {
        self.asn == session.asn
    }

    /// The families that some session carries.
    pub(super) fn families(&self) -> BTreeSet<Family> {
        self.sessions.iter().flat_map(|session| session.families.iter().copied()).collect()
    }

    pub(super) fn accepted(&self, family: Family) -> &[Accepted] {
        self.accepted.get(&family).map_or(&[], Vec::as_slice)
    }

    /// What the configuration is for, a line each.
    pub(super) fn header(&self) -> Vec<String> {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        vec![
            format!("Router {}, AS {}: its side of {}", addresses.join(" and "), self.asn, plural(self.sessions.len())),
            "Nodes may announce blocks, addresses they borrowed, their own addresses and services, and nothing else."
                .to_owned(),
        ]
    }
}

impl Session {
    /// What the operator has to see to, a line each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.address_is_a_guess {
            notes.push("this node peers from its address on the link: put that in if it is another one".to_owned());
        }
        if self.port != 179 {
            notes.push(format!("this node listens on port {}: let it connect", self.port));
        }
        notes
    }

    /// Whether hops may lie between that GTSM does not count.
    pub(super) fn is_multihop(&self) -> bool {
        !self.on_link && self.ttl_security.is_none()
    }

    /// A name that every make takes.
    pub(super) fn identifier(&self, separator: char) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { separator };
        let family = if self.address.is_ipv6() { format!("{separator}v6") } else { String::new() };
        format!("{}{family}", self.node.chars().map(plain).collect::<String>())
    }
}

fn plural(sessions: usize) -> String {
    if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") }
}

/// Plans every router that a BGPPeer names by address: each alone, or those of `wanted` together.
pub(super) fn plan(
    resources: Resources<'_>,
    node: Option<&str>,
    wanted: &[IpAddr],
    max_prefixes: u32,
) -> Result<Vec<Tor>, String> {
    if let Some(name) = node.filter(|name| resources.nodes.iter().all(|node| node.name() != *name)) {
        return Err(format!("there is no node '{name}'"));
    }
    let mut routers: BTreeMap<IpAddr, (Asn, Vec<Session>)> = BTreeMap::new();
    for peer in resources.peers {
        let (Some((address, _)), Some(asn)) = (peer.spec.peer_address(), peer.spec.as_number) else { continue };
        let own = |node: &Node| Family::ALL.iter().any(|family| node.spec.bgp_address(*family) == Some(address));
        if resources.nodes.iter().any(own) {
            continue;
        }
        let known = &mut routers.entry(address).or_insert_with(|| (asn, Vec::new())).1;
        for candidate in resources.nodes.iter().filter(|candidate| node.is_none_or(|node| candidate.name() == node)) {
            if selects(peer, candidate)?
                && let Some(session) = session(peer, address, candidate, resources.config)
                && !known.iter().any(|other| other.node == session.node)
            {
                known.push(session);
            }
        }
    }
    if let Some(unknown) = wanted.iter().find(|address| !routers.contains_key(address)) {
        let known: Vec<String> = routers.keys().map(ToString::to_string).collect();
        return Err(format!("no BGPPeer has the peerIP {unknown}; there are {}", known.join(", ")));
    }
    let groups: Vec<Vec<IpAddr>> = match wanted {
        [] => routers.keys().map(|address| vec![*address]).collect(),
        wanted => vec![wanted.to_vec()],
    };
    let mut tors = Vec::new();
    for addresses in groups {
        let members: Vec<&(Asn, Vec<Session>)> = addresses.iter().filter_map(|address| routers.get(address)).collect();
        let sessions: Vec<Session> = members.iter().flat_map(|(_, sessions)| sessions.iter().cloned()).collect();
        let Some((asn, _)) = members.first().filter(|_| !sessions.is_empty()) else { continue };
        if members.iter().any(|(other, _)| other != asn) {
            return Err("the routers of --tor have different AS numbers".to_owned());
        }
        let external = sessions.iter().map(|session| session.asn).filter(|node| node != asn).collect();
        let accepted = accepted(resources, &sessions);
        let addresses = addresses.into_iter().collect();
        tors.push(Tor { addresses, asn: *asn, sessions, accepted, node_asns: external, max_prefixes });
    }
    if tors.is_empty() {
        return Err("no BGPPeer with a peerIP makes a session with a router".to_owned());
    }
    Ok(tors)
}

fn selects(peer: &BgpPeer, node: &Node) -> Result<bool, String> {
    if !peer.spec.node.is_empty() {
        return Ok(peer.spec.node == node.name());
    }
    let selector: Selector =
        peer.spec.node_selector.parse().map_err(|error| format!("BGPPeer {}: {error}", peer.name()))?;
    Ok(selector.matches_labels(&node.metadata.labels))
}

fn session(peer: &BgpPeer, tor: IpAddr, node: &Node, config: &BgpConfigurationSpec) -> Option<Session> {
    let spec = &peer.spec;
    let family = Family::of(tor);
    let NodeAddress { address, guess: address_is_a_guess, on_link } =
        node_address(&node.spec, tor, spec.source_address)?;
    let node_asn = node.spec.bgp.as_ref().and_then(|bgp| bgp.as_number).unwrap_or(config.as_number());
    let keepalive = spec.keepalive_time().map(|time| time.as_secs().max(1));
    let hold_time = spec.hold_time().map(|time| time.as_secs()).or(keepalive.map(|time| time * 3)).unwrap_or(90);
    let reference = spec.password.as_ref().and_then(|password| password.secret_key_ref.as_ref());
    Some(Session {
        node: node.name().to_owned(),
        peer: peer.name().to_owned(),
        address,
        address_is_a_guess,
        on_link,
        asn: spec.local_as_number.unwrap_or(node_asn),
        tor,
        port: config.listen_port(),
        password: reference.map(|reference| format!("{}/{}", reference.name, reference.key)),
        ttl_security: spec.ttl_security.filter(|hops| *hops > 0),
        hold_time,
        keepalive: keepalive.unwrap_or(hold_time / 3),
        bfd: spec.bfd.as_ref().filter(|bfd| bfd.is_enabled()).map(|bfd| Bfd {
            min_tx: bfd.min_tx().as_millis(),
            min_rx: bfd.min_rx().as_millis(),
            multiplier: bfd.multiplier(),
        }),
        families: if spec.families.is_empty() {
            BTreeSet::from([family])
        } else {
            spec.families.iter().copied().collect()
        },
    })
}

/// The address that a node peers from.
struct NodeAddress {
    address: IpAddr,
    guess: bool,
    on_link: bool,
}

fn node_address(node: &NodeSpec, tor: IpAddr, source: Option<SourceAddress>) -> Option<NodeAddress> {
    let bgp = node.bgp_address(Family::of(tor));
    let texts = node.bgp.iter().flat_map(|bgp| [bgp.ipv4_address.as_deref(), bgp.ipv6_address.as_deref()]).flatten();
    let texts = texts.chain(node.addresses.iter().map(|address| address.address.as_str()));
    let on_link: Vec<IpAddr> = texts
        .filter_map(|text| {
            let (address, len) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let subnet = Cidr::truncated(address, len.parse().ok()?).ok()?;
            (subnet.contains(tor) && !subnet.is_host()).then_some(address)
        })
        .collect();
    if source == Some(SourceAddress::None) {
        let link = on_link.first().map(|address| NodeAddress { address: *address, guess: false, on_link: true });
        return link.or(bgp.map(|address| NodeAddress { address, guess: true, on_link: true }));
    }
    bgp.map(|address| NodeAddress { address, guess: false, on_link: on_link.contains(&address) })
}

/// What nodes may announce, by family.
fn accepted(resources: Resources<'_>, sessions: &[Session]) -> BTreeMap<Family, Vec<Accepted>> {
    let mut all: BTreeMap<Family, Vec<Accepted>> = BTreeMap::new();
    let mut accept = |within: Cidr, min_len: u8, max_len: u8, why: String| {
        let entries = all.entry(within.family()).or_default();
        let entry = Accepted { within, min_len: min_len.max(within.len()), max_len, why };
        let same = |other: &Accepted| (other.within, other.min_len, other.max_len) == (within, entry.min_len, max_len);
        if !entries.iter().any(same) {
            entries.push(entry);
        }
    };
    for pool in resources.pools.iter().filter(|pool| !pool.spec.disable_bgp_export) {
        let (cidr, block, bits) = (pool.spec.cidr, pool.spec.block_size(), pool.spec.cidr.family().bits());
        accept(cidr, block, block, format!("blocks of pool {}", pool.name()));
        if block < bits {
            accept(cidr, bits, bits, format!("borrowed addresses of pool {}", pool.name()));
        }
    }
    let config = resources.config;
    for (ranges, what) in [
        (&config.service_cluster_ips, "cluster IPs"),
        (&config.service_external_ips, "external IPs"),
        (&config.service_load_balancer_ips, "load balancer IPs"),
    ] {
        for range in ranges {
            // Calico takes entries without a range, and ignores them.
            let Some(cidr) = range.cidr else { continue };
            let (len, bits) = (cidr.len(), cidr.family().bits());
            accept(cidr, len, len, format!("{what} of services"));
            if len < bits {
                accept(cidr, bits, bits, format!("single {what} of services"));
            }
        }
    }
    let names: BTreeSet<&str> = sessions.iter().map(|session| session.node.as_str()).collect();
    for node in resources.nodes.iter().filter(|node| names.contains(node.name())) {
        for family in Family::ALL {
            if let Some(address) = node.spec.bgp_address(family) {
                accept(address.into(), family.bits(), family.bits(), format!("node {}", node.name()));
            }
        }
    }
    all
}
