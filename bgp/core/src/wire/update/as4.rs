use margay_net::Asn;

use super::super::as_path::{AsPath, SegmentKind};
use super::attribute::Reader;

impl Reader<'_> {
    /// Puts the four-octet numbers, which came through speakers of two-octet ones in attributes of their own, where they
    /// belong (RFC 6793 section 4.2.3).
    pub(super) fn merge_as4(&mut self) {
        let as4_path = self.as4_path.take();
        let as4_aggregator = self.as4_aggregator.take();
        if let (Some(aggregator), Some(as4_aggregator)) = (&mut self.attributes.aggregator, as4_aggregator) {
            if aggregator.asn != Asn::TRANS {
                // A speaker of two-octet numbers has aggregated since, so that both AS4 attributes are out of date.
                return;
            }
            *aggregator = as4_aggregator;
        }
        if let Some(path) = as4_path.and_then(|as4_path| merged(&self.attributes.as_path, &as4_path)) {
            self.attributes.as_path = path;
        }
    }
}

/// Takes from `as_path` what `as4_path` lacks at the front; `None` where `as4_path` is the longer one.
fn merged(as_path: &AsPath, as4_path: &AsPath) -> Option<AsPath> {
    let mut lacking = as_path.length().checked_sub(as4_path.length())? as usize;
    let mut path = AsPath::default();
    for segment in as_path.segments() {
        let taken = match segment.kind {
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => segment.asns.len(),
            _ if lacking == 0 => break,
            SegmentKind::Sequence => segment.asns.len().min(lacking),
            SegmentKind::Set => segment.asns.len(),
        };
        lacking -= match segment.kind {
            SegmentKind::Sequence => taken,
            SegmentKind::Set => 1,
            SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
        };
        path.push_joined(segment.kind, &segment.asns[..taken]);
        if taken < segment.asns.len() {
            break;
        }
    }
    for segment in as4_path.segments() {
        path.push_joined(segment.kind, segment.asns);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(segments: &[(SegmentKind, &[u32])]) -> AsPath {
        let mut path = AsPath::default();
        for (kind, asns) in segments {
            path.push(*kind, &asns.iter().copied().map(Asn).collect::<Vec<_>>());
        }
        path
    }

    #[test]
    fn the_front_comes_from_as_path_and_the_rest_from_as4_path() {
        use SegmentKind::{ConfedSequence, Sequence, Set};
        for (as_path, as4_path, expected) in [
            (path(&[(Sequence, &[1, 23456, 23456])]), path(&[(Sequence, &[70000, 70001])]), "1 70000 70001"),
            (path(&[(Sequence, &[23456])]), path(&[(Sequence, &[70000])]), "70000"),
            (
                path(&[(Sequence, &[1, 2, 23456]), (Set, &[23456, 3])]),
                path(&[(Sequence, &[70000]), (Set, &[70001, 3])]),
                "1 2 70000 {70001 3}",
            ),
            (
                path(&[(ConfedSequence, &[64512]), (Sequence, &[1, 23456])]),
                path(&[(Sequence, &[70000])]),
                "(64512) 1 70000",
            ),
            (path(&[(Set, &[5, 6]), (Sequence, &[23456])]), path(&[(Sequence, &[70000])]), "{5 6} 70000"),
        ] {
            assert_eq!(merged(&as_path, &as4_path).map(|path| path.to_string()), Some(expected.to_owned()));
        }
    }

    #[test]
    fn a_longer_as4_path_is_ignored() {
        use SegmentKind::Sequence;
        assert_eq!(merged(&path(&[(Sequence, &[1])]), &path(&[(Sequence, &[70000, 70001])])), None);
    }
}
