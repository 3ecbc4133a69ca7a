use std::net::IpAddr;

use margay_net::{Cidr, Family};
use serde::{Deserialize, Serialize};

use crate::selector::{self, Selector};
use crate::{Metadata, Object, Problem, Spec};

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

/// Whether a selector has `global()` in it; one that is not valid has not.
fn mentions_global(text: &str) -> bool {
    fn has(selector: &Selector) -> bool {
        match selector {
            Selector::Global => true,
            Selector::Not(inner) => has(inner),
            Selector::And(parts) | Selector::Or(parts) => parts.iter().any(has),
            _ => false,
        }
    }
    text.parse().is_ok_and(|selector| has(&selector))
}

impl IpPoolSpec {
    /// What the pool may be used for, and how.
    fn check_uses(&self, refuse: &mut dyn FnMut(&str, String)) {
        for (index, allowed) in self.allowed_uses.iter().enumerate() {
            let at = format!("allowedUses[{index}]");
            if !["Workload", "Tunnel", "LoadBalancer"].contains(&allowed.as_str()) {
                refuse(&at, format!("'{allowed}' is not one of Workload, Tunnel, LoadBalancer"));
            } else if self.allowed_uses[..index].contains(allowed) {
                refuse(&at, format!("'{allowed}' is there twice"));
            }
        }
        if self.allowed_uses.iter().any(|allowed| allowed == "LoadBalancer") {
            if self.allowed_uses.len() > 1 {
                refuse("allowedUses", "LoadBalancer goes with no other use: make another pool for it".to_owned());
            }
            if self.disable_bgp_export {
                refuse("disableBGPExport", "cannot be set on a pool for LoadBalancer".to_owned());
            }
            if !["", "all()"].contains(&self.node_selector.as_str()) {
                refuse("nodeSelector", "must be all() on a pool for LoadBalancer".to_owned());
            }
        }
        if !self.namespace_selector.is_empty() && self.allowed_uses.iter().any(|allowed| allowed == "Tunnel") {
            refuse("namespaceSelector", "does not go with the use Tunnel".to_owned());
        }
        if let Some(mode) = &self.assignment_mode
            && !["Automatic", "Manual"].contains(&mode.as_str())
        {
            refuse("assignmentMode", format!("'{mode}' is not one of Automatic, Manual"));
        }
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
        self.check_uses(&mut refuse);
        for (field, text) in [("nodeSelector", &self.node_selector), ("namespaceSelector", &self.namespace_selector)] {
            if let Err(error) = selector::check(text) {
                refuse(field, error.to_string());
            }
        }
        if mentions_global(&self.node_selector) {
            refuse("nodeSelector", "cannot have global(): it is about namespaces".to_owned());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    #[test]
    fn each_rule_of_a_field_is_checked() {
        for (spec, part) in [
            ("cidr: 10.65.0.0/16", ""),
            ("cidr: 10.65.0.1/16", "did you mean 10.65.0.0/16"),
            ("blockSize: 26", "spec.cidr: is needed"),
            ("cidr: 169.254.0.0/20", "link-local"),
            ("cidr: \"fe80::/64\"", "link-local"),
            ("cidr: 10.65.0.0/27", "smaller than one block"),
            ("cidr: 10.65.0.0/27, disabled: true", ""),
            ("cidr: 10.65.0.0/16, blockSize: 19", "20 to 32"),
            ("cidr: \"fd00::/64\", blockSize: 122", ""),
            ("cidr: 10.65.0.0/16, ipipMode: Always", "without encapsulation"),
            ("cidr: 10.65.0.0/16, ipipMode: Never, vxlanMode: Never", ""),
            ("cidr: 10.65.0.0/16, natOutgoing: true", "without NAT"),
            ("cidr: 10.65.0.0/16, allowedUses: [Workload, Tunnel]", ""),
            ("cidr: 10.65.0.0/16, allowedUses: [Pets]", "'Pets' is not one of"),
            ("cidr: 10.65.0.0/16, allowedUses: [Workload, Workload]", "twice"),
            ("cidr: 10.65.0.0/16, allowedUses: [LoadBalancer]", ""),
            ("cidr: 10.65.0.0/16, allowedUses: [LoadBalancer, Workload]", "no other use"),
            ("cidr: 10.65.0.0/16, allowedUses: [LoadBalancer], disableBGPExport: true", "disableBGPExport"),
            ("cidr: 10.65.0.0/16, allowedUses: [LoadBalancer], nodeSelector: has(a)", "must be all()"),
            ("cidr: 10.65.0.0/16, allowedUses: [Tunnel], namespaceSelector: has(a)", "does not go with the use Tunnel"),
            ("cidr: 10.65.0.0/16, assignmentMode: Manual", ""),
            ("cidr: 10.65.0.0/16, assignmentMode: Never", "'Never' is not one of"),
            ("cidr: 10.65.0.0/16, nodeSelector: \"!global() && has(a)\"", "cannot have global()"),
            ("cidr: 10.65.0.0/16, nodeSelector: \"has(\"", "nodeSelector"),
        ] {
            let text =
                format!("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: pods}}\nspec: {{{spec}}}\n");
            let read = parse_documents(&text).expect("YAML")[0].object::<IpPoolSpec>();
            let found = read.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(if part.is_empty() { found.is_empty() } else { found.contains(part) }, "{spec}: {found}");
        }
    }
}
