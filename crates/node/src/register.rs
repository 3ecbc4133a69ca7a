//! Which addresses a node registers in its Node resource.

use std::net::IpAddr;

use margay_api::kinds::{Node, NodeAddress, NodeBgp};
use margay_net::{Cidr, Family};

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostAddress {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    /// The length of the subnet that it is configured with.
    pub(crate) prefix_len: u8,
}

/// How the node's address in a family is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    /// What the Node resource says; else the address on the loopback, else the only one there is.
    Autodetect,
    /// This one.
    Address(IpAddr),
    /// The first address on this interface.
    Interface(String),
    /// The first address within.
    Within(Cidr),
    /// None in this family.
    Nothing,
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "autodetect" => Ok(Method::Autodetect),
            None if text == "none" => Ok(Method::Nothing),
            None => text.parse().map(Method::Address).map_err(|_| {
                format!("'{text}' is not an address, 'autodetect', 'none', 'interface=NAME' or 'cidr=PREFIX'")
            }),
            Some(("interface", name)) => Ok(Method::Interface(name.to_owned())),
            Some(("cidr", cidr)) => cidr.parse().map(Method::Within).map_err(|error| format!("{error}")),
            Some((other, _)) => Err(format!("'{other}' is not a way to find an address; use interface= or cidr=")),
        }
    }
}

/// The node's resource with its addresses filled in, or why they are not clear and what to do.
pub(crate) fn register(node: &Node, host: &[HostAddress], methods: &dyn Fn(Family) -> Method) -> Result<Node, String> {
    let mut registered = node.clone();
    let bgp = registered.spec.bgp.get_or_insert_with(NodeBgp::default);
    for family in Family::ALL {
        let field = match family {
            Family::V4 => &mut bgp.ipv4_address,
            Family::V6 => &mut bgp.ipv6_address,
        };
        let candidates: Vec<&HostAddress> = host.iter().filter(|candidate| usable(candidate, family)).collect();
        let known = node.spec.bgp_address(family);
        let chosen = match methods(family) {
            Method::Nothing => None,
            // The operator's word, or that of an earlier start.
            Method::Autodetect if known.is_some() => continue,
            Method::Autodetect => autodetect(family, &candidates)?,
            Method::Address(address) => Some(
                *candidates
                    .iter()
                    .find(|candidate| candidate.address == address)
                    .ok_or_else(|| not_there(family, &format!("address {address}"), &candidates))?,
            ),
            Method::Interface(name) => Some(
                *candidates
                    .iter()
                    .find(|candidate| candidate.interface == name)
                    .ok_or_else(|| not_there(family, &format!("address on interface {name}"), &candidates))?,
            ),
            Method::Within(cidr) if cidr.family() != family => continue,
            Method::Within(cidr) => Some(
                *candidates
                    .iter()
                    .find(|candidate| cidr.contains(candidate.address))
                    .ok_or_else(|| not_there(family, &format!("address within {cidr}"), &candidates))?,
            ),
        };
        *field = chosen.map(|chosen| format!("{}/{}", chosen.address, chosen.prefix_len));
    }
    if bgp.ipv4_address.is_none() && bgp.ipv6_address.is_none() {
        return Err("this machine has no address to register: give an interface one, or name it with --ip".to_owned());
    }
    let own = Family::ALL.into_iter().filter_map(|family| registered.spec.bgp_address(family));
    let own: Vec<NodeAddress> = own
        .map(|address| NodeAddress { address: address.to_string(), kind: Some("CalicoNodeIP".to_owned()) })
        .collect();
    registered.spec.addresses.retain(|address| address.kind.as_deref() != Some("CalicoNodeIP"));
    registered.spec.addresses.extend(own);
    Ok(registered)
}

fn usable(candidate: &HostAddress, family: Family) -> bool {
    let skipped = ["cali", "docker", "cbr", "virbr", "lxcbr", "kube-", "veth", "br-", "flannel", "cni"];
    let scoped = match candidate.address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
    };
    Family::of(candidate.address) == family
        && !scoped
        && !skipped.iter().any(|prefix| candidate.interface.starts_with(prefix))
}

fn autodetect<'a>(family: Family, candidates: &[&'a HostAddress]) -> Result<Option<&'a HostAddress>, String> {
    if let Some(loopback) = candidates.iter().find(|candidate| candidate.interface == "lo") {
        return Ok(Some(loopback));
    }
    let first = candidates.first().copied();
    if candidates.iter().any(|candidate| Some(&candidate.interface) != first.map(|first| &first.interface)) {
        return Err(format!(
            "this machine has {family} addresses on several interfaces ({}), and the node's is not clear: name it with --ip \
             or --ip6 (an address, interface=NAME or cidr=PREFIX), or in the Node resource",
            shown(candidates)
        ));
    }
    Ok(first)
}

fn not_there(family: Family, what: &str, candidates: &[&HostAddress]) -> String {
    let found = if candidates.is_empty() { "none".to_owned() } else { shown(candidates) };
    format!("this machine has no {family} {what}; it has {found}")
}

fn shown(candidates: &[&HostAddress]) -> String {
    let shown: Vec<String> =
        candidates.iter().map(|candidate| format!("{} on {}", candidate.address, candidate.interface)).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_api::Object;
    use margay_api::kinds::NodeSpec;

    fn host(addresses: &[(&str, &str, u8)]) -> Vec<HostAddress> {
        addresses
            .iter()
            .map(|(interface, address, prefix_len)| HostAddress {
                interface: (*interface).to_owned(),
                address: address.parse().expect("address"),
                prefix_len: *prefix_len,
            })
            .collect()
    }

    fn registered(host: &[HostAddress], method: &Method) -> Result<Option<String>, String> {
        let node = Object::named("n1", NodeSpec::default());
        let found =
            register(&node, host, &|family| if family == Family::V4 { method.clone() } else { Method::Autodetect })?;
        Ok(found.spec.bgp.and_then(|bgp| bgp.ipv4_address))
    }

    #[test]
    fn the_only_address_or_the_loopbacks_is_taken() {
        let one = host(&[("lo", "127.0.0.1", 8), ("eth0", "10.0.0.1", 24), ("cali123", "169.254.9.9", 32)]);
        assert_eq!(registered(&one, &Method::Autodetect), Ok(Some("10.0.0.1/24".to_owned())));
        let routed = host(&[("eth0", "10.1.0.1", 31), ("eth1", "10.2.0.1", 31), ("lo", "10.100.0.1", 32)]);
        assert_eq!(registered(&routed, &Method::Autodetect), Ok(Some("10.100.0.1/32".to_owned())));
    }

    #[test]
    fn ambiguity_is_refused_with_advice() {
        let two = host(&[("eth0", "10.1.0.1", 24), ("eth1", "10.2.0.1", 24)]);
        let error = registered(&two, &Method::Autodetect).expect_err("ambiguous");
        assert!(error.contains("10.1.0.1 on eth0, 10.2.0.1 on eth1") && error.contains("--ip"), "{error}");
        let chosen = registered(&two, &Method::Interface("eth1".to_owned()));
        assert_eq!(chosen, Ok(Some("10.2.0.1/24".to_owned())));
        assert!(
            registered(&two, &Method::Interface("eth7".to_owned())).expect_err("no eth7").contains("interface eth7")
        );
    }

    #[test]
    fn what_the_resource_says_stays() {
        let bgp = NodeBgp { ipv4_address: Some("10.9.9.9/32".to_owned()), ..NodeBgp::default() };
        let node = Object::named("n1", NodeSpec { bgp: Some(bgp), ..NodeSpec::default() });
        let found = register(&node, &host(&[("eth0", "10.0.0.1", 24)]), &|_| Method::Autodetect).expect("registered");
        assert_eq!(found.spec.bgp_address(Family::V4), "10.9.9.9".parse().ok());
        assert_eq!(found.spec.addresses[0].address, "10.9.9.9");
    }
}
