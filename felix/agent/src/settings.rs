//! Kernel settings that forwarding between pods needs. What felix needs, it owns: each is read, and written where it
//! differs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use margay_netlink::sysctl;

/// Of the whole namespace. Addresses stay on an interface that is set down, so that its routes come back with it
/// (IPv6; IPv4 does so anyway). Multipath by the flow's ports spreads flows between the same two hosts.
const GLOBAL: [(&str, &str); 5] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/all/keep_addr_on_down", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
];

/// Of a pod's host interface, below its folder: family and kind of the folder, name, value. The host answers for the
/// pod's gateway at once; no pod can change the host's routes by router advertisements; the link-local address that
/// is the pod's gateway is there at once, as nobody else on the link can have it.
const POD: [(&str, &str, &str); 6] = [
    ("net/ipv4/conf", "forwarding", "1"),
    ("net/ipv4/conf", "proxy_arp", "1"),
    ("net/ipv4/neigh", "proxy_delay", "0"),
    ("net/ipv6/conf", "forwarding", "1"),
    ("net/ipv6/conf", "accept_ra", "0"),
    ("net/ipv6/conf", "accept_dad", "0"),
];

/// The settings, and what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    problems: BTreeMap<String, String>,
    drift: u64,
    checked_once: bool,
}

impl Settings {
    /// Checks those of the namespace.
    pub(crate) fn ensure_global(&mut self) {
        for (key, value) in GLOBAL {
            if !key.starts_with("net/ipv6/") || has_ipv6() {
                self.ensure(key, value, self.checked_once);
            }
        }
        self.checked_once = true;
    }

    /// Checks those of a pod's interface. `blame`: they were right before.
    pub(crate) fn ensure_pod(&mut self, interface: &str, blame: bool) {
        for (folder, name, value) in POD {
            let key = format!("{folder}/{interface}/{name}");
            // An interface without one of the families has no settings of it, and one that just went has none at all.
            if Path::new("/proc/sys").join(&key).exists() {
                self.ensure(&key, value, blame);
            } else {
                self.problems.remove(&key);
            }
        }
    }

    /// What is not as it should be, in words.
    pub(crate) fn problems(&self) -> BTreeSet<String> {
        self.problems.values().cloned().collect()
    }

    /// How often something that was right had to be put right.
    pub(crate) fn drift(&self) -> u64 {
        self.drift
    }

    fn ensure(&mut self, key: &str, value: &str, blame: bool) {
        match sysctl::ensure(key, value) {
            Ok(changed) => {
                self.drift += u64::from(changed && blame);
                self.problems.remove(key);
            }
            Err(error) => {
                let problem = format!("{error}; {key} should be {value}");
                if self.problems.insert(key.to_owned(), problem).is_none() {
                    tracing::warn!(key, value, %error, "a kernel setting can't be made");
                }
            }
        }
    }
}

fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
