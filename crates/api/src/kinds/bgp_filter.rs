use margay_net::{Asn, Cidr, Family};
use serde::{Deserialize, Serialize};

use super::CommunityValue;
use super::bgp_configuration::{is_interface_glob, is_route_priority};
use crate::{Metadata, Object, Problem, Spec};

/// Ordered rules for the routes of the BGPPeers that name the filter; the first rule that matches decides. Where none
/// does, an imported route is accepted, and an exported one goes on to what Calico exports by itself.
pub type BgpFilter = Object<BgpFilterSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BgpFilterSpec {
    #[serde(rename = "exportV4", skip_serializing_if = "Vec::is_empty")]
    pub export_v4: Vec<BgpFilterRule>,
    #[serde(rename = "importV4", skip_serializing_if = "Vec::is_empty")]
    pub import_v4: Vec<BgpFilterRule>,
    #[serde(rename = "exportV6", skip_serializing_if = "Vec::is_empty")]
    pub export_v6: Vec<BgpFilterRule>,
    #[serde(rename = "importV6", skip_serializing_if = "Vec::is_empty")]
    pub import_v6: Vec<BgpFilterRule>,
}

/// One rule; all that it asks for must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpFilterRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// Lengths that `In` takes, and `NotIn` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLength>,
    /// Of an export rule: only routes that came from peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<FilterSource>,
    /// A glob over the name of the interface that the route leaves by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Only in sessions of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<CommunityMatch>,
    /// AS_PATH begins with these numbers.
    #[serde(default, rename = "asPathPrefix", skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<Asn>,
    /// The route's priority (a kernel metric), which is 2^31-1 less its LOCAL_PREF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    pub action: FilterAction,
    /// What is changed of a route that is accepted, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<FilterOperation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MatchOperator {
    Equal,
    NotEqual,
    In,
    NotIn,
}

/// Both ends are included; an absent one is that of `cidr`, or of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixLength {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterSource {
    RemotePeers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerType {
    #[serde(rename = "eBGP")]
    Ebgp,
    #[serde(rename = "iBGP")]
    Ibgp,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CommunityMatch {
    /// Exactly one, `aa:nn` or `aa:nn:mm`.
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterAction {
    Accept,
    Reject,
}

/// One change; exactly one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterOperation {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    #[serde(rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AddCommunity {
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrependAsPath {
    /// AS_PATH begins with these numbers afterwards, in this order.
    pub prefix: Vec<Asn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SetPriority {
    pub value: u32,
}

impl BgpFilterSpec {
    /// The rules for routes of a family that come in.
    pub fn import(&self, family: Family) -> &[BgpFilterRule] {
        match family {
            Family::V4 => &self.import_v4,
            Family::V6 => &self.import_v6,
        }
    }

    /// The rules for routes of a family that go out.
    pub fn export(&self, family: Family) -> &[BgpFilterRule] {
        match family {
            Family::V4 => &self.export_v4,
            Family::V6 => &self.export_v6,
        }
    }
}

impl BgpFilterRule {
    fn check(&self, at: &str, family: Family, problems: &mut Vec<Problem>) {
        let mut refuse = |field: &str, reason: String| problems.push(Problem::new(format!("{at}.{field}"), reason));
        match (self.cidr, self.match_operator) {
            (Some(cidr), _) if cidr.family() != family => {
                refuse("cidr", format!("{cidr} is not an {family} prefix"));
            }
            (Some(_), None) => refuse("cidr", "needs 'matchOperator'".to_owned()),
            (None, Some(_)) => refuse("matchOperator", "needs 'cidr'".to_owned()),
            _ => {}
        }
        if let Some(lengths) = self.prefix_length {
            let most = family.bits();
            match self.cidr {
                None => refuse("prefixLength", "needs 'cidr'".to_owned()),
                Some(cidr) => {
                    let min = lengths.min.unwrap_or(0).max(cidr.len());
                    let max = lengths.max.unwrap_or(most);
                    if lengths.min.is_some_and(|min| min > most) || max > most {
                        refuse("prefixLength", format!("must be within 0 to {most}"));
                    } else if min > max {
                        refuse("prefixLength", format!("no prefix within {cidr} has a length of {min} to {max}"));
                    }
                }
            }
            if matches!(self.match_operator, Some(MatchOperator::Equal | MatchOperator::NotEqual)) {
                refuse("prefixLength", "goes with the operators In and NotIn".to_owned());
            }
        }
        if let Some(glob) = &self.interface
            && !is_interface_glob(glob)
        {
            refuse("interface", format!("'{glob}' is not an interface's name, in which * stands for any characters"));
        }
        if let Some(CommunityMatch { values }) = &self.communities {
            match values.as_slice() {
                [value] => {
                    if let Err(reason) = value.parse::<CommunityValue>() {
                        refuse("communities.values[0]", reason);
                    }
                }
                _ => refuse("communities.values", "must have exactly one value; write a rule for each".to_owned()),
            }
        }
        if self.priority.is_some_and(|priority| !is_route_priority(priority)) {
            refuse("priority", "must be 1 to 2147483646".to_owned());
        }
        if !self.operations.is_empty() && self.action != FilterAction::Accept {
            refuse("operations", "go with 'action: Accept' only".to_owned());
        }
        if self.operations.len() > 10 {
            refuse("operations", format!("has {} entries; at most 10 are allowed", self.operations.len()));
        }
        for (index, operation) in self.operations.iter().enumerate() {
            if let Some(reason) = operation.problem() {
                refuse(&format!("operations[{index}]"), reason);
            }
        }
    }
}

impl FilterOperation {
    fn problem(&self) -> Option<String> {
        match (&self.add_community, &self.prepend_as_path, &self.set_priority) {
            (Some(add), None, None) => add.value.parse::<CommunityValue>().err(),
            (None, Some(PrependAsPath { prefix }), None) => match prefix.len() {
                1..=10 if prefix.contains(&Asn(0)) => Some("AS number 0 is reserved (RFC 7607)".to_owned()),
                1..=10 => None,
                len => Some(format!("'prependASPath.prefix' has {len} AS numbers; 1 to 10 are allowed")),
            },
            (None, None, Some(SetPriority { value })) => {
                (!is_route_priority(*value)).then(|| "'setPriority.value' must be 1 to 2147483646".to_owned())
            }
            _ => Some("must have exactly one of addCommunity, prependASPath and setPriority".to_owned()),
        }
    }
}

impl Spec for BgpFilterSpec {
    const KIND: &'static str = "BGPFilter";
    const PLURAL: &'static str = "bgpfilters";
    const NAMESPACED: bool = false;

    fn validate(&self, _metadata: &Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (field, family, rules) in [
            ("exportV4", Family::V4, &self.export_v4),
            ("importV4", Family::V4, &self.import_v4),
            ("exportV6", Family::V6, &self.export_v6),
            ("importV6", Family::V6, &self.import_v6),
        ] {
            for (index, rule) in rules.iter().enumerate() {
                let at = format!("spec.{field}[{index}]");
                rule.check(&at, family, &mut problems);
                if field.starts_with("import") && rule.source.is_some() {
                    let reason = "does not go with import rules: everything that is imported comes from a peer";
                    problems.push(Problem::new(format!("{at}.source"), reason));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_documents;

    fn said(list: &str, rule: &str) -> String {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {{name: f}}\nspec:\n  {list}:\n  - {{action: Reject}}\n  - {{{rule}}}\n"
        );
        let read = parse_documents(&text).expect("YAML")[0].object::<BgpFilterSpec>();
        read.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn each_rule_of_a_field_is_checked_and_placed() {
        let eleven = vec!["{addCommunity: {value: \"1:1\"}}"; 11].join(",");
        let asns = vec!["65001"; 11].join(",");
        for (rule, part) in [
            ("action: Accept", ""),
            ("cidr: 10.0.0.0/8, matchOperator: In, action: Accept", ""),
            ("action: Maybe", "line 7"),
            ("cidr: 10.0.0.0/8, matchOperator: In", "action"),
            ("cidr: 10.0.0.0/8, action: Accept", "spec.exportV4[1].cidr: needs 'matchOperator'"),
            ("matchOperator: In, action: Accept", "needs 'cidr'"),
            ("cidr: \"fd00::/8\", matchOperator: In, action: Accept", "is not an ipv4 prefix"),
            ("cidr: 10.0.0.0/8, matchOperator: NotIn, prefixLength: {min: 16, max: 24}, action: Accept", ""),
            ("cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {max: 33}, action: Accept", "within 0 to 32"),
            (
                "cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 26, max: 24}, action: Accept",
                "no prefix within",
            ),
            ("cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {max: 7}, action: Accept", "no prefix within"),
            (
                "cidr: 10.0.0.0/8, matchOperator: Equal, prefixLength: {min: 8}, action: Accept",
                "goes with the operators",
            ),
            ("prefixLength: {min: 16}, action: Accept", "prefixLength: needs 'cidr'"),
            ("source: RemotePeers, interface: \"eth*\", peerType: iBGP, action: Reject", ""),
            ("source: Local, action: Reject", "line 7"),
            ("interface: a-name-of-16-chars, action: Reject", "interface"),
            (
                "communities: {values: [\"65001:1\"]}, asPathPrefix: [65001, \"1.10\"], priority: 512, action: Reject",
                "",
            ),
            ("communities: {values: [\"65001:1\", \"65001:2\"]}, action: Reject", "exactly one value"),
            ("communities: {values: [\"65536:1\"]}, action: Reject", "communities.values[0]"),
            ("priority: 0, action: Reject", "1 to 2147483646"),
            ("action: Reject, operations: [{setPriority: {value: 5}}]", "Accept' only"),
            ("action: Accept, operations: [{}]", "exactly one of"),
            (
                "action: Accept, operations: [{setPriority: {value: 5}, addCommunity: {value: \"1:1\"}}]",
                "exactly one of",
            ),
            ("action: Accept, operations: [{setPriority: {value: 5}}, {addCommunity: {value: \"1:1:1\"}}]", ""),
            ("action: Accept, operations: [{prependASPath: {prefix: []}}]", "1 to 10 are allowed"),
            (&format!("action: Accept, operations: [{{prependASPath: {{prefix: [{asns}]}}}}]"), "1 to 10 are allowed"),
            ("action: Accept, operations: [{prependASPath: {prefix: [0]}}]", "RFC 7607"),
            (&format!("action: Accept, operations: [{eleven}]"), "at most 10"),
        ] {
            let found = said("exportV4", rule);
            assert!(if part.is_empty() { found.is_empty() } else { found.contains(part) }, "{rule}: {found}");
        }
        assert!(said("importV6", "source: RemotePeers, action: Reject").contains("does not go with import rules"));
        assert_eq!(
            said("importV6", "cidr: \"fd00::/8\", matchOperator: In, prefixLength: {max: 128}, action: Accept"),
            ""
        );
        assert!(said("exportV4", "cidr: 10.0.0.0/8, action: Accept").starts_with("line 7"));
    }
}
