//! Why paths lost or are rejected, in words and with the values that decided.

use margay_net::Cidr;

use super::Routing;
use super::decision::{Candidate, Decision, meds_are_comparable};
use super::prefixes::Path;
use crate::config::DecisionConfig;
use crate::view::{LossReason, RejectReason};
use crate::wire::Origin;

/// Says why a path that took part in a decision lost; `None` for the best one.
pub(super) fn lost(at: usize, paths: &[Candidate], decision: &Decision, config: &DecisionConfig) -> Option<String> {
    let reason = decision.lost.get(at).copied().flatten()?;
    let (path, best) = (paths.get(at)?, paths.get(decision.best)?);
    let values = match reason {
        LossReason::LocalPref => format!("{} < {}", path.local_pref, best.local_pref),
        LossReason::AsPathLength => format!("{} > {}", path.as_path_length, best.as_path_length),
        LossReason::Origin => format!("{} against {}", origin(path.origin), origin(best.origin)),
        LossReason::Med => {
            // The path that beat it may have lost later.
            let stayed = |other: usize| decision.lost[other].is_none_or(|lost| lost >= LossReason::Med);
            let rivals = paths.iter().enumerate().filter(|&(other, _)| stayed(other));
            let least =
                rivals.filter(|(_, other)| meds_are_comparable(path, other, config)).map(|(_, other)| other.med);
            format!("{} > {}", path.med, least.min()?)
        }
        LossReason::IgpMetric => format!("{} > {}", path.igp_metric, best.igp_metric),
        LossReason::RouterId => format!("{} > {}", path.router_id, best.router_id),
        LossReason::ClusterListLength => format!("{} > {}", path.cluster_list_length, best.cluster_list_length),
        LossReason::PeerAddress => format!("{} > {}", path.peer_address, best.peer_address),
        LossReason::PathId => format!("{} > {}", path.path_id, best.path_id),
        LossReason::NotLocal | LossReason::IbgpAgainstEbgp | LossReason::Newer => return Some(reason.to_string()),
    };
    Some(format!("{reason}: {values}"))
}

fn origin(value: u8) -> Origin {
    match value {
        0 => Origin::Igp,
        1 => Origin::Egp,
        _ => Origin::Incomplete,
    }
}

impl Routing {
    /// Says why a path isn't used.
    pub(super) fn rejected(&self, prefix: Cidr, path: &Path) -> Option<String> {
        let reason = path.rejected?;
        let giver = path.source.as_peer().and_then(|peer| self.peers.get(&peer));
        let profile = giver.map(|giver| &giver.profile);
        let attributes = &*self.store.get(path.received);
        let detailed = profile.and_then(|profile| match reason {
            RejectReason::Policy => match self.evaluate_import(profile, prefix, path.received).rule {
                Some(rule) => Some(format!("{reason} rejects it by rule {rule}")),
                None => Some(format!("{reason} rejects it by default")),
            },
            RejectReason::FirstAs => {
                Some(format!("{reason} {}, but is {:?}", profile.asn, attributes.as_path.to_string()))
            }
            RejectReason::NextHopIsSelf | RejectReason::NextHopInvalid => {
                Some(format!("{reason}: {}", attributes.next_hop?))
            }
            _ => self.guard.as_ref()?.words(reason, profile.announcer(), prefix, attributes),
        });
        Some(detailed.unwrap_or_else(|| reason.to_string()))
    }
}
