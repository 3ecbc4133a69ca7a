use margay_net::{Cidr, PrefixMap};
use smallvec::SmallVec;

use super::PrefixMatch;

/// The rules that a prefix meets, in order.
pub(super) type Hits = SmallVec<[u32; 8]>;

/// Which rules name a prefix, found by the prefixes that cover it, so that a list of thousands costs what a short one does.
#[derive(Debug, Default)]
pub(super) struct PrefixIndex(PrefixMap<SmallVec<[Range; 1]>>);

#[derive(Debug)]
struct Range {
    rule: u32,
    min_len: u8,
    max_len: u8,
}

impl PrefixIndex {
    pub(super) fn add(&mut self, rule: u32, wanted: &PrefixMatch) {
        let range = Range { rule, min_len: wanted.min_len, max_len: wanted.max_len };
        match self.0.exact_mut(wanted.covering) {
            Some(ranges) => ranges.push(range),
            None => {
                self.0.insert(wanted.covering, SmallVec::from_iter([range]));
            }
        }
    }

    /// Returns the rules of which some entry matches.
    pub(super) fn hits(&self, prefix: Cidr) -> Hits {
        let len = prefix.len();
        let ranges = self.0.covering(prefix).flat_map(|(_, ranges)| ranges);
        let mut hits: Hits =
            ranges.filter(|range| (range.min_len..=range.max_len).contains(&len)).map(|range| range.rule).collect();
        hits.sort_unstable();
        hits.dedup();
        hits
    }
}
