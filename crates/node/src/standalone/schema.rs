//! The file's fields; `docs/standalone.md` describes them. What is absent has the speaker's default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use margay_net::{Asn, Cidr, Family};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::community::CommunityText;
use super::problem::Problem;
use super::values::{PeerAddress, PrefixText, SendText, Span};

/// A value with its place in the file.
type At<T> = Spanned<T>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File {
    pub(super) asn: At<Asn>,
    pub(super) router_id: At<Ipv4Addr>,
    pub(super) cluster_id: Option<Ipv4Addr>,
    #[serde(default)]
    pub(super) listen: Listen,
    pub(super) fib: Option<At<Fib>>,
    #[serde(default = "yes")]
    pub(super) ebgp_requires_policy: bool,
    #[serde(default)]
    pub(super) networks: Vec<Cidr>,
    #[serde(default)]
    pub(super) multipath: MultipathSpec,
    #[serde(default)]
    pub(super) graceful_restart: RestartSpec,
    #[serde(default)]
    pub(super) decision: DecisionSpec,
    pub(super) drain: Option<DrainSpec>,
    #[serde(default)]
    pub(super) filters: BTreeMap<String, FilterSpec>,
    #[serde(default)]
    pub(super) templates: BTreeMap<String, At<PeerSpec>>,
    #[serde(default)]
    pub(super) peers: BTreeMap<String, At<PeerSpec>>,
    #[serde(default)]
    pub(super) listen_ranges: BTreeMap<String, At<RangeSpec>>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Listen {
    pub(super) port: Option<u16>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Whether best routes go to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fib {
    #[default]
    None,
    Kernel,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct MultipathSpec {
    pub(super) ebgp: Option<usize>,
    pub(super) ibgp: Option<usize>,
    pub(super) relax_as_path_content: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct RestartSpec {
    pub(super) enabled: Option<bool>,
    pub(super) restart_time: Option<At<Span>>,
    pub(super) deferral_time: Option<Span>,
    pub(super) stale_time: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DecisionSpec {
    pub(super) default_local_pref: Option<u32>,
    pub(super) always_compare_med: Option<bool>,
    pub(super) med_missing_as_worst: Option<bool>,
    pub(super) ignore_as_path_length: Option<bool>,
    pub(super) compare_router_id: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DrainSpec {
    pub(super) withdraw_after: Span,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FilterSpec {
    #[serde(default)]
    pub(super) rules: Vec<RuleSpec>,
    #[serde(default)]
    pub(super) default: Verdict,
}

/// What becomes of a route that no rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Accept,
    #[default]
    Reject,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleSpec {
    pub(super) action: Action,
    #[serde(default)]
    pub(super) prefixes: Vec<PrefixText>,
    #[serde(default)]
    pub(super) not_prefixes: Vec<PrefixText>,
    #[serde(default)]
    pub(super) from: Vec<From>,
    #[serde(default)]
    pub(super) communities: Vec<CommunityText>,
    #[serde(default)]
    pub(super) as_path_prefix: Vec<Asn>,
    #[serde(default)]
    pub(super) interfaces: Vec<String>,
    pub(super) local_pref: Option<u32>,
    #[serde(default)]
    pub(super) set: Vec<SetSpec>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Accept,
    Reject,
    Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum From {
    Networks,
    Ebgp,
    Ibgp,
}

/// One change; each entry of `set` is one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum SetSpec {
    LocalPref(u32),
    Med(u32),
    AddCommunity(CommunityText),
    RemoveCommunity(At<CommunityText>),
    Prepend(PrependSpec),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PrependSpec {
    /// The own AS number where absent.
    pub(super) asn: Option<Asn>,
    pub(super) count: At<u8>,
}

/// A peer, or what several have in common.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PeerSpec {
    pub(super) template: Option<At<String>>,
    pub(super) address: Option<At<PeerAddress>>,
    pub(super) port: Option<At<u16>>,
    pub(super) asn: Option<At<Asn>>,
    pub(super) description: Option<String>,
    pub(super) enabled: Option<bool>,
    pub(super) local_asn: Option<At<Asn>>,
    pub(super) local_as_mode: Option<LocalAs>,
    pub(super) source: Option<At<IpAddr>>,
    pub(super) passive: Option<bool>,
    pub(super) families: Option<At<Vec<Family>>>,
    pub(super) hold_time: Option<At<Span>>,
    pub(super) keepalive: Option<At<Span>>,
    pub(super) connect_retry: Option<At<Span>>,
    pub(super) send_hold_time: Option<Span>,
    pub(super) ttl_security: Option<At<u8>>,
    pub(super) multihop: Option<At<bool>>,
    pub(super) password: Option<At<String>>,
    pub(super) password_file: Option<At<String>>,
    pub(super) import: Option<Vec<At<String>>>,
    pub(super) export: Option<Vec<At<String>>>,
    pub(super) max_prefixes: Option<BTreeMap<Family, MaxPrefixesSpec>>,
    pub(super) next_hop: Option<NextHopText>,
    pub(super) route_reflector_client: Option<At<bool>>,
    pub(super) graceful_restart: Option<bool>,
    pub(super) restart_time: Option<At<Span>>,
    pub(super) bfd: Option<At<BfdSpec>>,
    pub(super) add_path: Option<AddPathSpec>,
    pub(super) allow_own_as: Option<u8>,
    pub(super) as_override: Option<bool>,
    pub(super) remove_private_as: Option<RemovePrivate>,
    pub(super) enforce_first_as: Option<bool>,
    pub(super) honour_graceful_shutdown: Option<bool>,
    pub(super) honour_blackhole: Option<bool>,
    pub(super) graceful_shutdown: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RangeSpec {
    pub(super) prefix: At<Cidr>,
    pub(super) limit: At<usize>,
    #[serde(default)]
    pub(super) asns: Vec<Asn>,
    pub(super) template: At<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LocalAs {
    Replace,
    Prepend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NextHopText {
    Auto,
    #[serde(rename = "self")]
    SelfAddress,
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RemovePrivate {
    Keep,
    Remove,
    Replace,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct BfdSpec {
    pub(super) enabled: Option<bool>,
    pub(super) min_tx: Option<Span>,
    pub(super) min_rx: Option<Span>,
    pub(super) multiplier: Option<u8>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct AddPathSpec {
    pub(super) receive: bool,
    pub(super) send: SendText,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MaxPrefixesSpec {
    pub(super) limit: At<u32>,
    pub(super) warning_percent: Option<At<u8>>,
    pub(super) action: Option<LimitAction>,
    pub(super) restart_after: Option<At<Span>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LimitAction {
    Warn,
    Restart,
    Hold,
}

/// Reads the text; unknown fields and values of the wrong type are refused by their place.
pub(super) fn parse(text: &str) -> Result<File, Problem> {
    serde_saphyr::from_str(text).map_err(|error| Problem::from(&error))
}
