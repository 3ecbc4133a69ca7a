use serde::{Deserialize, Serialize};

use crate::{Metadata, Object, Problem, Spec};

/// What a node's BGP side is asked to report, and reports: `status` holds a [`NodeStatusReport`].
pub type CalicoNodeStatus = Object<CalicoNodeStatusSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    pub node: String,
    /// What is reported.
    pub classes: Vec<NodeStatusClass>,
    /// How often the report is renewed; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodeStatusClass {
    Agent,
    #[serde(rename = "BGP")]
    Bgp,
    Routes,
}

/// A node's report. Times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatusReport {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_updated: String,
    pub agent: AgentReport,
    pub bgp: BgpReport,
    pub routes: RoutesReport,
}

/// The speaker. Calico has one daemon for each family.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentReport {
    #[serde(rename = "birdV4")]
    pub bird_v4: SpeakerReport,
    #[serde(rename = "birdV6")]
    pub bird_v6: SpeakerReport,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpeakerReport {
    /// `Ready` or `NotReady`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    pub version: String,
    #[serde(rename = "routerID")]
    pub router_id: String,
    pub last_boot_time: String,
    pub last_reconfiguration_time: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BgpReport {
    #[serde(rename = "numberEstablishedV4")]
    pub number_established_v4: u32,
    #[serde(rename = "numberNotEstablishedV4")]
    pub number_not_established_v4: u32,
    #[serde(rename = "numberEstablishedV6")]
    pub number_established_v6: u32,
    #[serde(rename = "numberNotEstablishedV6")]
    pub number_not_established_v6: u32,
    #[serde(rename = "peersV4", skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<PeerReport>,
    #[serde(rename = "peersV6", skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<PeerReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerReport {
    #[serde(rename = "peerIP")]
    pub peer_ip: String,
    /// `NodeMesh`, `NodePeer` or `GlobalPeer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm`, `Established` or `Close`.
    pub state: String,
    pub since: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RoutesReport {
    #[serde(rename = "routesV4", skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<RouteReport>,
    #[serde(rename = "routesV6", skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<RouteReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteReport {
    /// `FIB` where the route is in the kernel, else `RIB`.
    #[serde(rename = "type")]
    pub kind: String,
    pub destination: String,
    pub gateway: String,
    pub interface: String,
    pub learned_from: LearnedFrom,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LearnedFrom {
    /// `Kernel`, `Static`, `Direct`, `NodeMesh` or `BGPPeer`.
    pub source_type: String,
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
}

impl CalicoNodeStatusSpec {
    /// How often the report is renewed, in seconds: Calico's 10 where absent, 0 for never.
    pub fn update_period_seconds(&self) -> u32 {
        self.update_period_seconds.unwrap_or(10)
    }
}

impl Spec for CalicoNodeStatusSpec {
    const KIND: &'static str = "CalicoNodeStatus";
    const PLURAL: &'static str = "caliconodestatuses";
    const NAMESPACED: bool = false;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |field: &str, reason: &str| problems.push(Problem::new(format!("spec.{field}"), reason));
        if self.node.is_empty() {
            refuse("node", "is needed: the name of the node that is to report");
        }
        if self.classes.is_empty() {
            refuse("classes", "is needed: Agent, BGP or Routes");
        }
        for (index, class) in self.classes.iter().enumerate() {
            if self.classes[..index].contains(class) {
                refuse(&format!("classes[{index}]"), "is there twice");
            }
        }
        if self.update_period_seconds.is_some_and(|seconds| seconds > 86_400) {
            refuse("updatePeriodSeconds", "must be 0 (never) to 86400");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_object_names_a_node_and_what_it_reports() {
        let good = CalicoNodeStatusSpec {
            node: "n1".to_owned(),
            classes: vec![NodeStatusClass::Agent, NodeStatusClass::Bgp],
            update_period_seconds: Some(0),
        };
        assert!(good.validate(&Metadata::default()).is_empty());
        let bad = CalicoNodeStatusSpec { update_period_seconds: Some(86_401), ..CalicoNodeStatusSpec::default() };
        let fields: Vec<String> = bad.validate(&Metadata::default()).into_iter().map(|problem| problem.field).collect();
        assert_eq!(fields, ["spec.node", "spec.classes", "spec.updatePeriodSeconds"]);
        let json = serde_json::to_value(&good).expect("JSON");
        assert_eq!(json["classes"][1], "BGP");
    }

    #[test]
    fn a_report_has_calicos_names() {
        let report = NodeStatusReport {
            bgp: BgpReport { number_established_v4: 2, ..BgpReport::default() },
            ..NodeStatusReport::default()
        };
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["bgp"]["numberEstablishedV4"], 2);
        assert_eq!(json["agent"]["birdV4"]["routerID"], "");
    }
}
