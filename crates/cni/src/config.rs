use std::collections::BTreeMap;

use margay_local_api::{Attachment, DEFAULT_SOCKET, Pod, Port};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::environment::Environment;
use crate::error::CniError;
use crate::version::Version;

/// The network configuration that the runtime gives on standard input. Keys of others are passed over.
#[derive(Debug, Clone)]
pub(crate) struct NetworkConfig {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) socket: String,
    pub(crate) mtu: Option<u32>,
    pub(crate) ipam: Ipam,
    pub(crate) args: CniArgs,
    pub(crate) prev_result: Option<Value>,
    pub(crate) valid_attachments: Option<Vec<ValidAttachment>>,
}

/// What a veth pair takes (`ETH_MIN_MTU` and `ETH_MAX_MTU` of linux/if_ether.h).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// The keys below `ipam`. Calico writes booleans as strings; both are read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ipam {
    pub(crate) ipv4_pools: Vec<String>,
    pub(crate) ipv6_pools: Vec<String>,
    #[serde(deserialize_with = "boolean")]
    pub(crate) assign_ipv4: Option<bool>,
    #[serde(deserialize_with = "boolean")]
    pub(crate) assign_ipv6: Option<bool>,
}

/// What is told of the container outside Kubernetes, below `args.cni`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CniArgs {
    #[serde(deserialize_with = "labels")]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ports: Vec<Port>,
    pub(crate) service_account: String,
}

/// An entry of `cni.dev/valid-attachments`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    #[serde(rename = "ifname")]
    pub(crate) interface: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    name: String,
    #[serde(default)]
    socket: Option<String>,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    ipam: Ipam,
    #[serde(default)]
    args: RawArgs,
    #[serde(default)]
    prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawArgs {
    cni: CniArgs,
}

impl NetworkConfig {
    /// Reads the configuration; an error goes with the version to answer in.
    pub(crate) fn parse(stdin: &[u8]) -> Result<NetworkConfig, (Version, CniError)> {
        let value: Value = serde_json::from_slice(stdin).map_err(|error| {
            let message = "the network configuration on standard input is not valid JSON";
            (Version::NEWEST, CniError::new(CniError::DECODING_FAILURE, message, error))
        })?;
        if !value.is_object() {
            let message = "the network configuration on standard input is not a JSON object";
            return Err((Version::NEWEST, CniError::new(CniError::INVALID_CONFIG, message, value)));
        }
        let spoken = value.get("cniVersion").and_then(Value::as_str).unwrap_or("0.2.0");
        let Some(version) = Version::parse(spoken) else {
            let supported: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
            let message = format!("CNI version {spoken} is not supported");
            let error =
                CniError::new(CniError::INCOMPATIBLE_VERSION, message, format!("supported: {}", supported.join(", ")));
            return Err((Version::NEWEST, error));
        };
        // A runtime without attachments may write null for the empty list.
        let none_valid = value.get("cni.dev/valid-attachments").is_some_and(Value::is_null);
        let raw: Raw = serde_json::from_value(value).map_err(|error| {
            (version, CniError::new(CniError::INVALID_CONFIG, "the network configuration is not valid", error))
        })?;
        let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !raw.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !raw.name.bytes().all(alphabet) {
            let message = format!("the network's name '{}' is not valid", raw.name);
            let details = "it must begin with a letter or digit, and hold letters, digits, '_', '.' and '-' only";
            return Err((version, CniError::new(CniError::INVALID_CONFIG, message, details)));
        }
        let mtu = raw.mtu.filter(|mtu| *mtu != 0);
        if let Some(mtu) = mtu.filter(|mtu| !MTU.contains(mtu)) {
            let details = format!("it must be from {} to {}, or 0 for the kernel's choice", MTU.start(), MTU.end());
            return Err((version, CniError::new(CniError::INVALID_CONFIG, format!("'mtu' is {mtu}"), details)));
        }
        Ok(NetworkConfig {
            version,
            name: raw.name,
            socket: raw.socket.unwrap_or_else(|| DEFAULT_SOCKET.to_owned()),
            mtu,
            ipam: raw.ipam,
            args: raw.args.cni,
            prev_result: raw.prev_result,
            valid_attachments: raw.valid_attachments.or(none_valid.then(Vec::new)),
        })
    }

    /// Whether an address of each family is asked for: IPv4 unless said otherwise.
    pub(crate) fn families(&self) -> (bool, bool) {
        (self.ipam.assign_ipv4.unwrap_or(true), self.ipam.assign_ipv6.unwrap_or(false))
    }

    pub(crate) fn client(&self) -> margay_local_api::Client {
        margay_local_api::Client::new(&self.socket)
    }

    pub(crate) fn attachment(&self, environment: &Environment) -> Attachment {
        Attachment {
            network: self.name.clone(),
            container_id: environment.container_id.clone(),
            interface: environment.interface.clone(),
        }
    }

    /// The pod that the runtime speaks of. A container without the name of one is pod CONTAINERID of namespace
    /// `default`.
    pub(crate) fn pod(&self, environment: &Environment) -> Pod {
        let arg = |key: &str| environment.args.get(key).filter(|value| !value.is_empty()).cloned();
        Pod {
            namespace: arg("K8S_POD_NAMESPACE").unwrap_or_else(|| "default".to_owned()),
            name: arg("K8S_POD_NAME").unwrap_or_else(|| environment.container_id.to_ascii_lowercase()),
            uid: arg("K8S_POD_UID").unwrap_or_default(),
            labels: self.args.labels.clone(),
            service_account: self.args.service_account.clone(),
            ports: self.args.ports.clone(),
        }
    }
}

fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(other) => Err(serde::de::Error::custom(format!("{other} is neither true nor false"))),
    }
}

/// Reads labels as a map, or as the list of key and value pairs that the CNI conventions have.
fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    struct Pair {
        key: String,
        value: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Map(BTreeMap<String, String>),
        List(Vec<Pair>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Map(map) => map,
        Either::List(list) => list.into_iter().map(|pair| (pair.key, pair.value)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_json_and_unknown_versions_have_their_codes() {
        assert_eq!(NetworkConfig::parse(b"{").expect_err("not JSON").1.code, 6);
        assert_eq!(NetworkConfig::parse(br#""no object""#).expect_err("no object").1.code, 7);
        assert_eq!(NetworkConfig::parse(br#"{"cniVersion":"9.9.9","name":"n"}"#).expect_err("version").1.code, 1);
        assert_eq!(NetworkConfig::parse(br#"{"cniVersion":"1.0.0","name":"../n"}"#).expect_err("name").1.code, 7);
        let (version, error) =
            NetworkConfig::parse(br#"{"cniVersion":"1.0.0","name":"n","mtu":"x"}"#).expect_err("mtu");
        assert_eq!((version, error.code), (Version::V1_0_0, 7));
    }

    #[test]
    fn the_mtu_is_the_kernels_where_it_is_0_and_refused_where_no_link_can_have_it() {
        let with =
            |mtu: &str| NetworkConfig::parse(format!(r#"{{"cniVersion":"1.1.0","name":"n","mtu":{mtu}}}"#).as_bytes());
        assert_eq!(with("0").expect("valid").mtu, None);
        assert_eq!(with("9000").expect("valid").mtu, Some(9000));
        for mtu in ["67", "65536", "-1"] {
            assert_eq!(with(mtu).expect_err(mtu).1.code, 7);
        }
    }

    #[test]
    fn an_empty_list_of_attachments_is_not_an_absent_one() {
        let valid = |json: &str| {
            let json = format!(r#"{{"cniVersion":"1.1.0","name":"n"{json}}}"#);
            NetworkConfig::parse(json.as_bytes()).expect("valid").valid_attachments.map(|valid| valid.len())
        };
        assert_eq!(valid(""), None);
        assert_eq!(valid(r#","cni.dev/valid-attachments":null"#), Some(0));
        assert_eq!(valid(r#","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]"#), Some(1));
    }

    #[test]
    fn calicos_spelling_and_labels_in_both_forms_are_read() {
        let json = br#"{"cniVersion":"1.1.0","name":"n","type":"margay-cni","ipam":{"type":"x","assign_ipv4":"false","assign_ipv6":true},
            "args":{"cni":{"labels":{"app":"web"},"ports":[{"name":"http","containerPort":80}],"serviceAccount":"sa"}}}"#;
        let config = NetworkConfig::parse(json).expect("valid");
        assert_eq!((config.ipam.assign_ipv4, config.ipam.assign_ipv6), (Some(false), Some(true)));
        assert_eq!(config.args.labels["app"], "web");
        assert_eq!((config.args.ports[0].port, config.args.ports[0].protocol.as_str()), (80, "TCP"));
        let json = br#"{"cniVersion":"1.1.0","name":"n","args":{"cni":{"labels":[{"key":"app","value":"db"}]}}}"#;
        assert_eq!(NetworkConfig::parse(json).expect("valid").args.labels["app"], "db");
    }
}
