use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::Cidr;

/// A map from prefixes of both families to values, with longest-prefix match.
///
/// For exact matches alone a hash map is faster; this one is for whoever asks what covers or is covered.
#[derive(Debug, Clone)]
pub struct PrefixMap<T> {
    v4: prefix_trie::PrefixMap<Ipv4Net, T>,
    v6: prefix_trie::PrefixMap<Ipv6Net, T>,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        PrefixMap { v4: prefix_trie::PrefixMap::new(), v6: prefix_trie::PrefixMap::new() }
    }
}

impl<T> PrefixMap<T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` at `cidr` and returns what was there.
    pub fn insert(&mut self, cidr: Cidr, value: T) -> Option<T> {
        match cidr.into() {
            IpNet::V4(net) => self.v4.insert(net, value),
            IpNet::V6(net) => self.v6.insert(net, value),
        }
    }

    /// Removes the value at exactly `cidr`.
    pub fn remove(&mut self, cidr: Cidr) -> Option<T> {
        match cidr.into() {
            IpNet::V4(net) => self.v4.remove(&net),
            IpNet::V6(net) => self.v6.remove(&net),
        }
    }

    /// The value at exactly `cidr`.
    pub fn exact(&self, cidr: Cidr) -> Option<&T> {
        match cidr.into() {
            IpNet::V4(net) => self.v4.get(&net),
            IpNet::V6(net) => self.v6.get(&net),
        }
    }

    /// The value at exactly `cidr`, to be changed.
    pub fn exact_mut(&mut self, cidr: Cidr) -> Option<&mut T> {
        match cidr.into() {
            IpNet::V4(net) => self.v4.get_mut(&net),
            IpNet::V6(net) => self.v6.get_mut(&net),
        }
    }

    /// The longest prefix that covers `cidr`, itself included, and its value.
    pub fn longest_match(&self, cidr: Cidr) -> Option<(Cidr, &T)> {
        match cidr.into() {
            IpNet::V4(net) => self.v4.get_lpm(&net).map(|(net, value)| (IpNet::V4(net).into(), value)),
            IpNet::V6(net) => self.v6.get_lpm(&net).map(|(net, value)| (IpNet::V6(net).into(), value)),
        }
    }

    /// The longest prefix that contains `addr`, and its value.
    pub fn lookup(&self, addr: IpAddr) -> Option<(Cidr, &T)> {
        self.longest_match(Cidr::host(addr))
    }

    /// The entries whose prefixes cover `cidr`, itself included, the shortest first.
    pub fn covering(&self, cidr: Cidr) -> impl Iterator<Item = (Cidr, &T)> {
        let (v4, v6) = match cidr.into() {
            IpNet::V4(net) => (Some(self.v4.cover(&net)), None),
            IpNet::V6(net) => (None, Some(self.v6.cover(&net))),
        };
        let v4 = v4.into_iter().flatten().map(|(net, value)| (IpNet::V4(net).into(), value));
        v4.chain(v6.into_iter().flatten().map(|(net, value)| (IpNet::V6(net).into(), value)))
    }

    /// The entries whose prefixes lie in `cidr`, itself included, in order of prefix.
    pub fn within(&self, cidr: Cidr) -> impl Iterator<Item = (Cidr, &T)> {
        let (v4, v6) = match cidr.into() {
            IpNet::V4(net) => (Some(self.v4.children(&net)), None),
            IpNet::V6(net) => (None, Some(self.v6.children(&net))),
        };
        let v4 = v4.into_iter().flatten().map(|(net, value)| (IpNet::V4(net).into(), value));
        v4.chain(v6.into_iter().flatten().map(|(net, value)| (IpNet::V6(net).into(), value)))
    }

    /// All entries, IPv4 first, each family in order of prefix.
    pub fn iter(&self) -> impl Iterator<Item = (Cidr, &T)> {
        let v4 = self.v4.iter().map(|(net, value)| (IpNet::V4(net).into(), value));
        let v6 = self.v6.iter().map(|(net, value)| (IpNet::V6(net).into(), value));
        v4.chain(v6)
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_covering_prefix_wins() {
        let mut map = PrefixMap::new();
        for (cidr, value) in [("10.0.0.0/8", 8), ("10.1.0.0/16", 16), ("fd00::/64", 64)] {
            map.insert(cidr.parse().expect("prefix"), value);
        }
        let lookup = |addr: &str| map.lookup(addr.parse().expect("address")).map(|(_, value)| *value);
        assert_eq!(lookup("10.1.2.3"), Some(16));
        assert_eq!(lookup("10.2.2.3"), Some(8));
        assert_eq!(lookup("fd00::1"), Some(64));
        assert_eq!(lookup("192.0.2.1"), None);
        assert_eq!(map.iter().count(), 3);
    }

    #[test]
    fn what_covers_a_prefix_and_what_lies_in_it_are_found_in_order() {
        let mut map = PrefixMap::new();
        let prefix = |text: &str| text.parse::<Cidr>().expect("prefix");
        for cidr in ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "::/0", "fd00::/64"] {
            map.insert(prefix(cidr), ());
        }
        let covering = |cidr: &str| map.covering(prefix(cidr)).map(|(cidr, ())| cidr.to_string()).collect::<Vec<_>>();
        assert_eq!(covering("10.1.2.0/25"), ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24"]);
        assert_eq!(covering("10.1.0.0/16"), ["10.0.0.0/8", "10.1.0.0/16"]);
        assert_eq!(covering("fd00::1/128"), ["::/0", "fd00::/64"]);
        assert!(covering("0.0.0.0/0").is_empty());
        let within = |cidr: &str| map.within(prefix(cidr)).map(|(cidr, ())| cidr.to_string()).collect::<Vec<_>>();
        assert_eq!(within("10.1.0.0/16"), ["10.1.0.0/16", "10.1.2.0/24"]);
        assert_eq!(within("10.0.0.0/7").len(), 4);
        assert!(within("10.1.2.0/25").is_empty());
    }
}
