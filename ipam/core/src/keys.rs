//! Where IPAM's objects are stored: Calico's v1 keys, in which the `/` of a CIDR is a `-`.

use margay_net::{Cidr, Family};

/// All blocks of a family.
pub fn blocks(family: Family) -> String {
    format!("/calico/ipam/v2/assignment/{family}/block/")
}

/// A block.
pub fn block(cidr: Cidr) -> String {
    format!("{}{}", blocks(cidr.family()), segment(cidr))
}

/// All affinities of a host in a family.
pub fn affinities(host: &str, family: Family) -> String {
    format!("/calico/ipam/v2/host/{host}/{family}/block/")
}

/// The affinity of a host for a block.
pub fn affinity(host: &str, cidr: Cidr) -> String {
    format!("{}{}", affinities(host, cidr.family()), segment(cidr))
}

/// All handles.
pub const HANDLES: &str = "/calico/ipam/v2/handle/";

/// A handle.
pub fn handle(id: &str) -> String {
    format!("{HANDLES}{id}")
}

/// All affinities of all hosts.
pub const HOSTS: &str = "/calico/ipam/v2/host/";

/// The CIDR at the end of a block's or an affinity's key.
pub fn cidr_of(key: &str) -> Option<Cidr> {
    let last = key.rsplit('/').next()?;
    let (addr, len) = last.rsplit_once('-')?;
    format!("{addr}/{len}").parse().ok()
}

/// The host, and the CIDR, of an affinity's key.
pub fn host_of_affinity(key: &str) -> Option<(&str, Cidr)> {
    let rest = key.strip_prefix(HOSTS)?;
    let (host, rest) = rest.split_once('/')?;
    rest.contains("/block/").then_some(())?;
    Some((host, cidr_of(key)?))
}

fn segment(cidr: Cidr) -> String {
    cidr.to_string().replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_calicos_and_can_be_read_back() {
        let v4: Cidr = "10.65.1.0/26".parse().expect("prefix");
        let v6: Cidr = "fd65::40/122".parse().expect("prefix");
        assert_eq!(block(v4), "/calico/ipam/v2/assignment/ipv4/block/10.65.1.0-26");
        assert_eq!(affinity("n-1", v6), "/calico/ipam/v2/host/n-1/ipv6/block/fd65::40-122");
        assert_eq!(cidr_of(&block(v4)), Some(v4));
        assert_eq!(host_of_affinity(&affinity("n-1", v6)), Some(("n-1", v6)));
        assert_eq!(host_of_affinity("/calico/ipam/v2/host/n-1"), None);
    }
}
