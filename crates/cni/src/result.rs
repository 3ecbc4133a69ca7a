//! The result of ADD, in the shape of each version of the specification.

use std::net::IpAddr;

use margay_net::{Cidr, Family, Mac};
use serde_json::{Map, Value, json};

use crate::version::Version;

/// What ADD made.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub(crate) host_interface: String,
    pub(crate) interface: String,
    pub(crate) mac: Mac,
    pub(crate) sandbox: String,
    pub(crate) mtu: u32,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ipv4_gateway: Option<IpAddr>,
    pub(crate) ipv6_gateway: Option<IpAddr>,
}

impl Added {
    pub(crate) fn gateway(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ipv4_gateway,
            Family::V6 => self.ipv6_gateway,
        }
    }

    /// The result, behind what earlier plugins of a chain made.
    pub(crate) fn to_json(&self, version: Version, previous: Option<&Value>) -> Value {
        let mut result = match previous {
            Some(Value::Object(previous)) => previous.clone(),
            _ => Map::new(),
        };
        result.insert("cniVersion".to_owned(), version.as_str().into());
        let mut host = json!({ "name": self.host_interface, "mac": Mac::HOST_SIDE.to_string() });
        let mut pod = json!({ "name": self.interface, "mac": self.mac.to_string(), "sandbox": self.sandbox });
        if version >= Version::V1_1_0 {
            host["mtu"] = self.mtu.into();
            pod["mtu"] = self.mtu.into();
        }
        let interfaces = list(&mut result, "interfaces");
        let pod_index = interfaces.len() + 1;
        interfaces.extend([host, pod]);
        let ips = self.addresses.iter().map(|address| {
            let family = Family::of(*address);
            let mut ip = json!({ "address": Cidr::host(*address).to_string(), "interface": pod_index });
            if version < Version::V1_0_0 {
                ip["version"] = (if family == Family::V4 { "4" } else { "6" }).into();
            }
            if let Some(gateway) = self.gateway(family) {
                ip["gateway"] = gateway.to_string().into();
            }
            ip
        });
        list(&mut result, "ips").extend(ips);
        let families =
            Family::ALL.into_iter().filter(|family| self.addresses.iter().any(|a| Family::of(*a) == *family));
        let routes = families.filter_map(|family| {
            self.gateway(family)
                .map(|gateway| json!({ "dst": Cidr::any(family).to_string(), "gw": gateway.to_string() }))
        });
        list(&mut result, "routes").extend(routes);
        result.entry("dns").or_insert_with(|| json!({}));
        Value::Object(result)
    }
}

fn list<'a>(result: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let entry = result.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    match entry {
        Value::Array(items) => items,
        // Made an array above.
        _ => unreachable!("the entry is an array"),
    }
}

/// What CHECK finds in the result of an earlier ADD: the interface in the container and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) host_interface: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Expected {
    /// Reads a result of any version; None where it does not speak of `interface` in a sandbox.
    pub(crate) fn read(result: &Value, interface: &str) -> Option<Expected> {
        let interfaces = result.get("interfaces")?.as_array()?;
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let index = interfaces.iter().position(|candidate| {
            text(candidate, "name").as_deref() == Some(interface)
                && text(candidate, "sandbox").is_some_and(|s| !s.is_empty())
        })?;
        let host =
            interfaces.iter().filter_map(|candidate| text(candidate, "name")).find(|name| name.starts_with("cali"))?;
        let addresses = result.get("ips")?.as_array()?.iter().filter_map(|ip| {
            let ours = ip.get("interface").and_then(Value::as_u64).is_none_or(|at| at == index as u64);
            let address = text(ip, "address")?;
            let address = address.split('/').next()?.parse().ok()?;
            ours.then_some(address)
        });
        Some(Expected {
            host_interface: host,
            mac: text(&interfaces[index], "mac").and_then(|mac| mac.parse().ok()),
            addresses: addresses.collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> Added {
        Added {
            host_interface: "cali0123456789a".to_owned(),
            interface: "eth0".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            sandbox: "/run/netns/x".to_owned(),
            mtu: 1500,
            addresses: vec!["10.65.0.1".parse().expect("address"), "fd65::1".parse().expect("address")],
            ipv4_gateway: "169.254.1.1".parse().ok(),
            ipv6_gateway: "fe80::ecee:eeff:feee:eeee".parse().ok(),
        }
    }

    #[test]
    fn the_result_has_the_shape_of_its_version() {
        let old = added().to_json(Version::V0_3_1, None);
        assert_eq!(
            old["ips"][0],
            json!({"address":"10.65.0.1/32","interface":1,"version":"4","gateway":"169.254.1.1"})
        );
        assert_eq!(old["ips"][1]["version"], "6");
        assert!(old["interfaces"][1].get("mtu").is_none());
        let new = added().to_json(Version::V1_1_0, None);
        assert!(new["ips"][0].get("version").is_none());
        assert_eq!(new["interfaces"][1]["mtu"], 1500);
        assert_eq!(
            new["routes"],
            json!([{"dst":"0.0.0.0/0","gw":"169.254.1.1"},{"dst":"::/0","gw":"fe80::ecee:eeff:feee:eeee"}])
        );
    }

    #[test]
    fn a_result_is_read_back_whatever_its_version() {
        for version in Version::ALL {
            let expected = Expected::read(&added().to_json(version, None), "eth0").expect("a result");
            assert_eq!(expected.addresses, added().addresses);
            assert_eq!(expected.host_interface, "cali0123456789a");
        }
        assert_eq!(Expected::read(&json!({}), "eth0"), None);
    }

    #[test]
    fn what_earlier_plugins_made_is_kept() {
        let previous =
            json!({"cniVersion":"1.0.0","interfaces":[{"name":"lo","sandbox":"/run/netns/x"}],"dns":{"domain":"x"}});
        let result = added().to_json(Version::V1_0_0, Some(&previous));
        assert_eq!(result["interfaces"][0]["name"], "lo");
        assert_eq!(result["ips"][0]["interface"], 2);
        assert_eq!(result["dns"]["domain"], "x");
    }
}
