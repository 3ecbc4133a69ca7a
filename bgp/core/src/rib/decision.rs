//! The decision process (RFC 4271 section 9.1.2.2): elimination, step by step, so that the outcome does not depend on
//! the order of arrival, MED among paths of different neighbours included.

use std::net::{IpAddr, Ipv4Addr};

use margay_net::Asn;
use smallvec::SmallVec;

use crate::config::{DecisionConfig, Multipath};
use crate::view::LossReason;

/// What the decision process knows of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The node's own route; it wins before anything is compared.
    pub(crate) local: bool,
    pub(crate) local_pref: u32,
    /// The number of AS numbers, an AS_SET counted as one.
    pub(crate) as_path_length: u32,
    /// 0 IGP, 1 EGP, 2 INCOMPLETE.
    pub(crate) origin: u8,
    /// The AS whose MEDs are comparable: the first of AS_PATH.
    pub(crate) neighbour_as: Option<Asn>,
    pub(crate) med: u32,
    pub(crate) ebgp: bool,
    /// The interior cost to the next hop; 0 where it is connected.
    pub(crate) igp_metric: u32,
    /// ORIGINATOR_ID where there is one (RFC 4456 section 9).
    pub(crate) router_id: Ipv4Addr,
    pub(crate) cluster_list_length: usize,
    pub(crate) peer_address: IpAddr,
    /// Tells the paths of one peer apart (RFC 7911); 0 where it has only one.
    pub(crate) path_id: u32,
    /// Identifies the content of AS_PATH; compared where multipath asks for equal ones.
    pub(crate) as_path_id: u64,
}

/// How paths are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) decision: &'a DecisionConfig,
    pub(crate) multipath: &'a Multipath,
}

/// What became of the paths of a prefix, by their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) best: usize,
    /// The best path and those as good, within the limit; in the order of preference.
    pub(crate) multipath: SmallVec<[usize; 4]>,
    /// The step at which a path lost; `None` for the best one.
    pub(crate) lost: SmallVec<[Option<LossReason>; 4]>,
}

/// Chooses among the usable paths of a prefix; `None` where there is none.
///
/// `current` is the best path so far, where it is still among them. It matters only where eBGP paths are not told apart
/// by router id ([`DecisionConfig::compare_router_id`]); the outcome is otherwise the same in whatever order the paths
/// came.
pub(crate) fn decide(paths: &[Candidate], rules: &Rules<'_>, current: Option<usize>) -> Option<Decision> {
    let mut decision =
        Decision { best: 0, multipath: SmallVec::from_slice(&[0]), lost: smallvec::smallvec![None; paths.len()] };
    if paths.len() <= 1 {
        return if paths.is_empty() { None } else { Some(decision) };
    }
    let mut left: SmallVec<[usize; 8]> = (0..paths.len()).collect();
    let mut equal: Option<SmallVec<[usize; 8]>> = None;
    for step in STEPS {
        if step == LossReason::Newer {
            equal = Some(left.clone());
        }
        if left.len() > 1 && !is_skipped(step, paths, &left, rules.decision, current) {
            eliminate(step, paths, &mut left, &mut decision.lost, rules.decision, current);
        }
    }
    // Path ids tell the paths of one peer apart, so one path is left; were there more, the first would do.
    decision.best = left[0];
    decision.multipath = alternatives(paths, decision.best, equal.unwrap_or(left), rules.multipath);
    Some(decision)
}

const STEPS: [LossReason; 12] = [
    LossReason::NotLocal,
    LossReason::LocalPref,
    LossReason::AsPathLength,
    LossReason::Origin,
    LossReason::Med,
    LossReason::IbgpAgainstEbgp,
    LossReason::IgpMetric,
    LossReason::Newer,
    LossReason::RouterId,
    LossReason::ClusterListLength,
    LossReason::PeerAddress,
    LossReason::PathId,
];

fn is_skipped(
    step: LossReason,
    paths: &[Candidate],
    left: &[usize],
    config: &DecisionConfig,
    current: Option<usize>,
) -> bool {
    match step {
        LossReason::AsPathLength => config.ignore_as_path_length,
        // RFC 5004 section 3: only where the best path so far is external, as are all that are left after the step
        // before.
        LossReason::Newer => {
            let stays = |current| left.contains(&current) && paths[current].ebgp;
            config.compare_router_id || !current.is_some_and(stays)
        }
        _ => false,
    }
}

/// Whether the MEDs of two paths are compared.
pub(super) fn meds_are_comparable(a: &Candidate, b: &Candidate, config: &DecisionConfig) -> bool {
    config.always_compare_med || a.neighbour_as == b.neighbour_as
}

/// Removes from `left` what loses at `step`, and notes why.
fn eliminate(
    step: LossReason,
    paths: &[Candidate],
    left: &mut SmallVec<[usize; 8]>,
    lost: &mut [Option<LossReason>],
    config: &DecisionConfig,
    current: Option<usize>,
) {
    let before = left.clone();
    let key: &dyn Fn(usize) -> u128 = match step {
        LossReason::NotLocal => &|at| u128::from(!paths[at].local),
        LossReason::LocalPref => &|at| u128::from(u32::MAX - paths[at].local_pref),
        LossReason::AsPathLength => &|at| u128::from(paths[at].as_path_length),
        LossReason::Origin => &|at| u128::from(paths[at].origin),
        // Those that a comparable path beats get the worse key.
        LossReason::Med => &|at| {
            let path = &paths[at];
            let beats = |other: &Candidate| other.med < path.med && meds_are_comparable(other, path, config);
            u128::from(before.iter().any(|&other| beats(&paths[other])))
        },
        LossReason::IbgpAgainstEbgp => &|at| u128::from(!paths[at].ebgp),
        LossReason::IgpMetric => &|at| u128::from(paths[at].igp_metric),
        LossReason::Newer => &|at| u128::from(Some(at) != current),
        LossReason::RouterId => &|at| u128::from(paths[at].router_id.to_bits()),
        LossReason::ClusterListLength => &|at| paths[at].cluster_list_length as u128,
        LossReason::PeerAddress => &|at| match paths[at].peer_address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        },
        LossReason::PathId => &|at| u128::from(paths[at].path_id),
    };
    let least = before.iter().map(|&at| key(at)).min();
    left.retain(|at| {
        let stays = Some(key(*at)) == least;
        if !stays {
            lost[*at] = Some(step);
        }
        stays
    });
}

/// Picks the paths that share the traffic with the best one among those equal to it but for the tie-breakers.
fn alternatives(
    paths: &[Candidate],
    best: usize,
    equal: SmallVec<[usize; 8]>,
    multipath: &Multipath,
) -> SmallVec<[usize; 4]> {
    let chosen = &paths[best];
    let limit = if chosen.local {
        1
    } else if chosen.ebgp {
        multipath.ebgp.max(1)
    } else {
        multipath.ibgp.max(1)
    };
    let mut others: SmallVec<[usize; 8]> = equal
        .into_iter()
        .filter(|&index| {
            index != best && (multipath.relax_as_path_content || paths[index].as_path_id == chosen.as_path_id)
        })
        .collect();
    others.sort_by_key(|&index| (paths[index].router_id, paths[index].peer_address, paths[index].path_id));
    std::iter::once(best).chain(others).take(limit).collect()
}

#[cfg(test)]
mod tests;
