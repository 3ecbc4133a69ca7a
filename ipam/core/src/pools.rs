use margay_api::Labels;
use margay_api::kinds::IpPool;
use margay_api::selector::Selector;
use margay_net::{Cidr, Family};

/// The pools of a family that a node may assign from, in order of name.
///
/// Pools that are asked for by name or CIDR win and ignore selectors, but must be enabled; else those count that are
/// automatic and whose nodeSelector matches (Calico: empty means all).
pub fn eligible_pools<'a>(
    pools: &'a [IpPool],
    family: Family,
    requested: &[String],
    node_labels: &Labels,
) -> Vec<&'a IpPool> {
    let mut eligible: Vec<&IpPool> = pools
        .iter()
        .filter(|pool| pool.spec.cidr.family() == family && !pool.spec.disabled)
        .filter(|pool| {
            if requested.is_empty() {
                let selected = pool.spec.node_selector.parse::<Selector>().is_ok_and(|s| s.matches_labels(node_labels));
                pool.spec.is_automatic() && selected
            } else {
                requested.iter().any(|wanted| wanted == pool.name() || *wanted == pool.spec.cidr.to_string())
            }
        })
        .collect();
    eligible.sort_by(|a, b| a.name().cmp(b.name()));
    eligible
}

/// The blocks of a pool, each once, from a start that depends on the host, so that hosts don't race for the same; none
/// where a block would be larger than the pool.
#[derive(Debug, Clone)]
pub struct BlockWalk {
    pool: Cidr,
    block_len: u8,
    count: u128,
    start: u128,
    step: u128,
}

impl BlockWalk {
    pub fn new(pool: Cidr, block_len: u8, host: &str) -> BlockWalk {
        let count = 1u128.checked_shl(u32::from(block_len.saturating_sub(pool.len()))).unwrap_or(u128::MAX);
        BlockWalk { pool, block_len, count, start: u128::from(host_hash(host)) % count, step: 0 }
    }
}

impl Iterator for BlockWalk {
    type Item = Cidr;

    fn next(&mut self) -> Option<Cidr> {
        if self.step >= self.count || self.block_len < self.pool.len() {
            return None;
        }
        let index = (self.start + self.step) % self.count;
        self.step += 1;
        let block_size = Cidr::truncated(self.pool.addr(), self.block_len).ok()?.size();
        Cidr::new(self.pool.nth(index.checked_mul(block_size)?)?, self.block_len).ok()
    }
}

/// A number to spread hosts with: the 32-bit FNV-1a hash of the name.
pub fn host_hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use margay_api::Object;
    use margay_api::kinds::IpPoolSpec;
    use std::collections::BTreeSet;

    fn pool(name: &str, cidr: &str, change: impl Fn(&mut IpPoolSpec)) -> IpPool {
        let mut spec = IpPoolSpec { cidr: cidr.parse().expect("prefix"), ..IpPoolSpec::default() };
        change(&mut spec);
        Object::named(name, spec)
    }

    #[test]
    fn a_walk_visits_every_block_once() {
        let walked: Vec<Cidr> = BlockWalk::new("10.65.0.0/22".parse().expect("prefix"), 26, "n1").collect();
        assert_eq!(walked.len(), 16);
        assert_eq!(walked.iter().collect::<BTreeSet<_>>().len(), 16);
        let other: Vec<Cidr> = BlockWalk::new("10.65.0.0/22".parse().expect("prefix"), 26, "n2").collect();
        assert_ne!(walked[0], other[0]);
        assert_eq!(BlockWalk::new("10.65.0.0/28".parse().expect("prefix"), 26, "n1").next(), None);
    }

    #[test]
    fn a_pool_counts_where_it_is_enabled_automatic_and_selected_or_asked_for() {
        let pools = [
            pool("b", "10.2.0.0/16", |_| {}),
            pool("a", "10.1.0.0/16", |spec| spec.node_selector = "rack == 'x'".to_owned()),
            pool("manual", "10.3.0.0/16", |spec| spec.assignment_mode = Some("Manual".to_owned())),
            pool("off", "10.4.0.0/16", |spec| spec.disabled = true),
            pool("six", "fd00::/64", |_| {}),
        ];
        let names = |requested: &[&str], labels: &Labels| -> Vec<String> {
            let requested: Vec<String> = requested.iter().map(|s| (*s).to_owned()).collect();
            let eligible = eligible_pools(&pools, Family::V4, &requested, labels);
            eligible.into_iter().map(|pool| pool.name().to_owned()).collect()
        };
        let rack = Labels::from([("rack".to_owned(), "x".to_owned())]);
        assert_eq!(names(&[], &Labels::new()), ["b"]);
        assert_eq!(names(&[], &rack), ["a", "b"]);
        assert_eq!(names(&["manual", "10.1.0.0/16", "off"], &Labels::new()), ["a", "manual"]);
    }
}
