//! The decision process (RFC 4271 section 9.1.2.2): elimination, step by step, so that the outcome does not depend on
//! the order of arrival, MED among paths of different neighbours included.

use std::net::{IpAddr, Ipv4Addr};

use margay_net::Asn;
use smallvec::SmallVec;

use crate::config::Multipath;
use crate::view::LossReason;

/// LOCAL_PREF of a path without one.
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

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
    /// ORIGINATOR_ID where there is one (RFC 4456 section 9).
    pub(crate) router_id: Ipv4Addr,
    pub(crate) cluster_list_length: usize,
    pub(crate) peer_address: IpAddr,
    /// Identifies the content of AS_PATH; compared where multipath asks for equal ones.
    pub(crate) as_path_id: u64,
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
pub(crate) fn decide(paths: &[Candidate], multipath: &Multipath) -> Option<Decision> {
    let mut decision =
        Decision { best: 0, multipath: SmallVec::from_slice(&[0]), lost: smallvec::smallvec![None; paths.len()] };
    if paths.len() <= 1 {
        return if paths.is_empty() { None } else { Some(decision) };
    }
    let mut left: SmallVec<[usize; 8]> = (0..paths.len()).collect();
    let mut equal: Option<SmallVec<[usize; 8]>> = None;
    for step in STEPS {
        if step == LossReason::RouterId {
            equal = Some(left.clone());
        }
        if left.len() > 1 {
            eliminate(step, paths, &mut left, &mut decision.lost);
        }
    }
    // Two paths of one peer do not exist, so one path is left; were there more, the first would do.
    decision.best = left[0];
    decision.multipath = alternatives(paths, decision.best, equal.unwrap_or(left), multipath);
    Some(decision)
}

const STEPS: [LossReason; 9] = [
    LossReason::NotLocal,
    LossReason::LocalPref,
    LossReason::AsPathLength,
    LossReason::Origin,
    LossReason::Med,
    LossReason::IbgpAgainstEbgp,
    LossReason::RouterId,
    LossReason::ClusterListLength,
    LossReason::PeerAddress,
];

/// Removes from `left` what loses at `step`, and notes why.
fn eliminate(step: LossReason, paths: &[Candidate], left: &mut SmallVec<[usize; 8]>, lost: &mut [Option<LossReason>]) {
    let before = left.clone();
    let least = |key: &dyn Fn(&Candidate) -> u128| before.iter().map(|&index| key(&paths[index])).min();
    let key: &dyn Fn(&Candidate) -> u128 = match step {
        LossReason::NotLocal => &|path| u128::from(!path.local),
        LossReason::LocalPref => &|path| u128::from(u32::MAX - path.local_pref),
        LossReason::AsPathLength => &|path| u128::from(path.as_path_length),
        LossReason::Origin => &|path| u128::from(path.origin),
        LossReason::Med => {
            left.retain(|index| {
                let path = &paths[*index];
                let beaten = before
                    .iter()
                    .any(|&other| paths[other].neighbour_as == path.neighbour_as && paths[other].med < path.med);
                if beaten {
                    lost[*index] = Some(step);
                }
                !beaten
            });
            return;
        }
        LossReason::IbgpAgainstEbgp => &|path| u128::from(!path.ebgp),
        LossReason::RouterId => &|path| u128::from(path.router_id.to_bits()),
        LossReason::ClusterListLength => &|path| path.cluster_list_length as u128,
        LossReason::PeerAddress => &|path| match path.peer_address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        },
    };
    let least = least(key);
    left.retain(|index| {
        let stays = Some(key(&paths[*index])) == least;
        if !stays {
            lost[*index] = Some(step);
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
    others.sort_by_key(|&index| (paths[index].router_id, paths[index].peer_address));
    std::iter::once(best).chain(others).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Candidate {
        Candidate {
            local: false,
            local_pref: 100,
            as_path_length: 2,
            origin: 0,
            neighbour_as: Some(Asn(65001)),
            med: 0,
            ebgp: true,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            cluster_list_length: 0,
            peer_address: "192.0.2.1".parse().expect("an address"),
            as_path_id: 1,
        }
    }

    const MULTIPATH: Multipath = Multipath { ebgp: 16, ibgp: 16, relax_as_path_content: true };

    #[test]
    fn each_step_decides_and_says_so() {
        let table: [(LossReason, Candidate); 9] = [
            (LossReason::NotLocal, Candidate { local: true, local_pref: 1, ..path() }),
            (LossReason::LocalPref, Candidate { local_pref: 200, as_path_length: 9, ..path() }),
            (LossReason::AsPathLength, Candidate { as_path_length: 1, origin: 2, ..path() }),
            (LossReason::Origin, Candidate { med: 50, ..path() }),
            (LossReason::Med, Candidate { origin: 1, med: 5, ebgp: false, ..path() }),
            (LossReason::IbgpAgainstEbgp, Candidate { origin: 1, med: 10, ..path() }),
            (
                LossReason::RouterId,
                Candidate { router_id: Ipv4Addr::new(10, 0, 0, 0), cluster_list_length: 3, ..path() },
            ),
            (LossReason::ClusterListLength, Candidate { cluster_list_length: 1, ..path() }),
            (LossReason::PeerAddress, Candidate { peer_address: "192.0.2.0".parse().expect("an address"), ..path() }),
        ];
        for (reason, winner) in table {
            let mut loser = path();
            match reason {
                LossReason::Origin => loser.origin = 1,
                LossReason::Med => (loser.origin, loser.med) = (1, 10),
                LossReason::IbgpAgainstEbgp => (loser.origin, loser.med, loser.ebgp) = (1, 10, false),
                LossReason::ClusterListLength => loser.cluster_list_length = 2,
                _ => {}
            }
            for (paths, best) in [([winner, loser], 0), ([loser, winner], 1)] {
                let decision = decide(&paths, &MULTIPATH).expect("a best path");
                assert_eq!(decision.best, best, "{reason}");
                assert_eq!(decision.lost[1 - best], Some(reason));
                assert_eq!(decision.lost[best], None);
            }
        }
    }

    #[test]
    fn med_is_compared_only_between_paths_of_the_same_neighbour() {
        // The classic of RFC 4451: pairwise comparison would depend on the order.
        let a = Candidate { neighbour_as: Some(Asn(1)), med: 10, router_id: Ipv4Addr::new(0, 0, 0, 2), ..path() };
        let b = Candidate { neighbour_as: Some(Asn(2)), med: 50, router_id: Ipv4Addr::new(0, 0, 0, 3), ..path() };
        let c = Candidate { neighbour_as: Some(Asn(1)), med: 20, router_id: Ipv4Addr::new(0, 0, 0, 1), ..path() };
        for order in [[a, b, c], [a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
            let decision = decide(&order, &MULTIPATH).expect("a best path");
            assert_eq!(order[decision.best], a);
        }
    }

    #[test]
    fn multipath_takes_equal_paths_whose_as_paths_differ_only_if_told() {
        let other = Candidate { as_path_id: 2, router_id: Ipv4Addr::new(10, 0, 0, 9), neighbour_as: None, ..path() };
        let longer = Candidate { as_path_length: 3, ..path() };
        let paths = [other, longer, path()];
        assert_eq!(decide(&paths, &MULTIPATH).expect("best").multipath.as_slice(), [2, 0]);
        let strict = Multipath { relax_as_path_content: false, ..MULTIPATH };
        assert_eq!(decide(&paths, &strict).expect("best").multipath.as_slice(), [2]);
        let off = Multipath { ebgp: 1, ..MULTIPATH };
        assert_eq!(decide(&paths, &off).expect("best").multipath.as_slice(), [2]);
    }

    #[test]
    fn nothing_is_chosen_from_nothing() {
        assert_eq!(decide(&[], &MULTIPATH), None);
    }
}
