use std::net::IpAddr;

use margay_net::{Cidr, Family};
use serde::{Deserialize, Serialize};

use crate::{Metadata, Object, Problem, Spec, selector};

/// A range of addresses for pods, cut into blocks.
pub type IpPool = Object<IpPoolSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpPoolSpec {
    pub cidr: Cidr,
    #[serde(rename = "ipipMode", skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nat_outgoing: bool,
    /// No new assignments; existing ones stay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    #[serde(rename = "disableBGPExport", skip_serializing_if = "std::ops::Not::not")]
    pub disable_bgp_export: bool,
    /// The prefix length of a block: 20 to 32 (26 where absent), or 116 to 128 (122).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// The nodes that may assign from the pool; all where empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_selector: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace_selector: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<String>,
}

impl Default for IpPoolSpec {
    fn default() -> Self {
        IpPoolSpec {
            cidr: Cidr::any(Family::V4),
            ipip_mode: None,
            vxlan_mode: None,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            block_size: None,
            node_selector: String::new(),
            namespace_selector: String::new(),
            allowed_uses: Vec::new(),
            assignment_mode: None,
        }
    }
}

impl IpPoolSpec {
    /// The prefix length of the pool's blocks.
    pub fn block_size(&self) -> u8 {
        self.block_size.unwrap_or(match self.cidr.family() {
            Family::V4 => 26,
            Family::V6 => 122,
        })
    }

    /// Tells whether pods may get addresses without asking for the pool.
    pub fn is_automatic(&self) -> bool {
        !self.disabled
            && self.assignment_mode.as_deref() != Some("Manual")
            && (self.allowed_uses.is_empty() || self.allowed_uses.iter().any(|allowed| allowed == "Workload"))
    }
}

impl Spec for IpPoolSpec {
    const KIND: &'static str = "IPPool";
    const PLURAL: &'static str = "ippools";
    const NAMESPACED: bool = false;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |field: &str, reason: String| problems.push(Problem::new(format!("spec.{field}"), reason));
        if self.cidr.len() == 0 {
            refuse("cidr", "is needed, and cannot be the whole address space".to_owned());
        }
        let link_local = match self.cidr.family() {
            Family::V4 => Cidr::truncated(IpAddr::from([169, 254, 0, 0]), 16),
            Family::V6 => Cidr::truncated(IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10),
        };
        if link_local.is_ok_and(|link_local| link_local.overlaps(self.cidr)) {
            refuse("cidr", format!("{} overlaps the link-local range", self.cidr));
        }
        let (min, max) = match self.cidr.family() {
            Family::V4 => (20, 32),
            Family::V6 => (116, 128),
        };
        let block_size = self.block_size();
        if !(min..=max).contains(&block_size) {
            refuse("blockSize", format!("{block_size} is not within {min} to {max}"));
        } else if block_size < self.cidr.len() && !self.disabled {
            refuse("cidr", format!("{} is smaller than one block of /{block_size}", self.cidr));
        }
        for (field, mode) in [("ipipMode", &self.ipip_mode), ("vxlanMode", &self.vxlan_mode)] {
            if mode.as_deref().is_some_and(|mode| mode != "Never") {
                refuse(field, "only 'Never' is supported: Margay routes without encapsulation".to_owned());
            }
        }
        if self.nat_outgoing {
            refuse("natOutgoing", "is not supported: Margay routes without NAT".to_owned());
        }
        for (field, text) in [("nodeSelector", &self.node_selector), ("namespaceSelector", &self.namespace_selector)] {
            if let Err(error) = selector::check(text) {
                refuse(field, error.to_string());
            }
        }
        problems
    }

    /// Blocks of two sizes would overlap, and an address could have two owners (Calico: immutable).
    fn validate_change(&self, before: &Self) -> Option<Problem> {
        let fixed = "cannot be changed: delete the pool and create another one";
        if self.cidr != before.cidr {
            return Some(Problem::new("spec.cidr", format!("{} {fixed}", before.cidr)));
        }
        let block_size = before.block_size();
        (self.block_size() != block_size).then(|| Problem::new("spec.blockSize", format!("{block_size} {fixed}")))
    }
}
