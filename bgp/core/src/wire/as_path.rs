use std::fmt;

use margay_net::Asn;
use smallvec::{SmallVec, smallvec};

/// The most AS numbers that a segment has on the wire.
pub(super) const MAX_SEGMENT: usize = 255;

/// The kind of an AS_PATH segment; the values are those on the wire (RFC 4271 section 4.3, RFC 5065 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SegmentKind {
    Set = 1,
    Sequence = 2,
    ConfedSequence = 3,
    ConfedSet = 4,
}

impl SegmentKind {
    pub(super) fn from_wire(kind: u8) -> Option<SegmentKind> {
        Some(match kind {
            1 => SegmentKind::Set,
            2 => SegmentKind::Sequence,
            3 => SegmentKind::ConfedSequence,
            4 => SegmentKind::ConfedSet,
            _ => return None,
        })
    }

    /// Tells whether the segment is of use within a confederation only.
    pub fn is_confederation(self) -> bool {
        matches!(self, SegmentKind::ConfedSequence | SegmentKind::ConfedSet)
    }
}

/// A segment of an [`AsPath`]: at least one AS number and at most 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub kind: SegmentKind,
    pub asns: &'a [Asn],
}

/// The ASes that a route came through, the nearest one first (RFC 4271 section 5.1.2).
///
/// All numbers lie in one vector and the segments beside it, so that a path of up to eight ASes needs no allocation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AsPath {
    asns: SmallVec<[Asn; 8]>,
    segments: SmallVec<[(SegmentKind, u8); 4]>,
}

impl AsPath {
    /// Makes a path of one sequence, cut in segments of 255.
    pub fn sequence(asns: impl IntoIterator<Item = Asn>) -> AsPath {
        let asns: SmallVec<[Asn; 8]> = asns.into_iter().collect();
        let mut path = AsPath::default();
        path.push(SegmentKind::Sequence, &asns);
        path
    }

    /// Appends a segment, cut where it has more than 255 numbers; an empty one is left out.
    pub fn push(&mut self, kind: SegmentKind, asns: &[Asn]) {
        for part in asns.chunks(MAX_SEGMENT) {
            self.segments.push((kind, part.len() as u8));
        }
        self.asns.extend_from_slice(asns);
    }

    /// Appends a segment; a sequence goes on in the sequence before it where that has room for all of it.
    pub(super) fn push_joined(&mut self, kind: SegmentKind, asns: &[Asn]) {
        match self.segments.last_mut() {
            Some((SegmentKind::Sequence, len))
                if kind == SegmentKind::Sequence && usize::from(*len) + asns.len() <= MAX_SEGMENT =>
            {
                *len += asns.len() as u8;
                self.asns.extend_from_slice(asns);
            }
            _ => self.push(kind, asns),
        }
    }

    pub(super) fn reserve(&mut self, asns: usize) {
        self.asns.reserve_exact(asns);
    }

    /// Appends a segment of at most 255 numbers without a copy in between.
    pub(super) fn push_segment(&mut self, kind: SegmentKind, len: u8, asns: impl Iterator<Item = Asn>) {
        self.segments.push((kind, len));
        self.asns.extend(asns);
        debug_assert_eq!(self.asns.len(), self.segments.iter().map(|&(_, len)| usize::from(len)).sum::<usize>());
    }

    /// Returns the segments in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut rest = self.asns.as_slice();
        self.segments.iter().map(move |&(kind, len)| {
            let (asns, after) = rest.split_at(usize::from(len).min(rest.len()));
            rest = after;
            Segment { kind, asns }
        })
    }

    /// Returns all AS numbers in order, whatever their segment.
    pub fn asns(&self) -> &[Asn] {
        &self.asns
    }

    /// Tells whether there is no AS at all, as in a route of the speaker's own AS.
    pub fn is_empty(&self) -> bool {
        self.asns.is_empty()
    }

    /// Returns the length that the decision process compares: a set counts as one AS (RFC 4271 section 9.1.2.2),
    /// confederation segments as none (RFC 5065 section 5.3).
    pub fn length(&self) -> u32 {
        self.segments
            .iter()
            .map(|&(kind, len)| match kind {
                SegmentKind::Sequence => u32::from(len),
                SegmentKind::Set => 1,
                SegmentKind::ConfedSequence | SegmentKind::ConfedSet => 0,
            })
            .sum()
    }

    /// Returns the AS that the route was learned from: the first one of the path where that begins with a sequence,
    /// confederation segments aside. MEDs are comparable among paths that have it in common.
    pub fn first_as(&self) -> Option<Asn> {
        let segment = self.segments().find(|segment| !segment.kind.is_confederation())?;
        if segment.kind == SegmentKind::Sequence { segment.asns.first().copied() } else { None }
    }

    /// Returns the AS that originated the route: the last one, where it isn't one of a set.
    pub fn origin_as(&self) -> Option<Asn> {
        match self.segments.last() {
            Some((SegmentKind::Sequence | SegmentKind::ConfedSequence, _)) => self.asns.last().copied(),
            _ => None,
        }
    }

    /// Counts how often `asn` occurs.
    pub fn count(&self, asn: Asn) -> usize {
        self.asns.iter().filter(|&&other| other == asn).count()
    }

    /// Tells whether `asn` occurs.
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns.contains(&asn)
    }

    /// Leaves out the segments of a confederation, which nobody outside may see (RFC 5065 section 5).
    pub fn strip_confederation(&mut self) {
        if self.segments.iter().any(|(kind, _)| kind.is_confederation()) {
            let mut stripped = AsPath::default();
            for segment in self.segments().filter(|segment| !segment.kind.is_confederation()) {
                stripped.push(segment.kind, segment.asns);
            }
            *self = stripped;
        }
    }

    /// Puts `asn` before the path `times` times, in the first sequence as long as that has room, else in new ones.
    pub fn prepend(&mut self, asn: Asn, times: usize) {
        if times == 0 {
            return;
        }
        self.asns.insert_many(0, std::iter::repeat_n(asn, times));
        let mut left = times;
        if let Some((SegmentKind::Sequence, len)) = self.segments.first_mut() {
            let room = left.min(MAX_SEGMENT - usize::from(*len));
            *len += room as u8;
            left -= room;
        }
        // The numbers are all alike, so that it does not matter which of the new segments has which.
        let mut segments: SmallVec<[(SegmentKind, u8); 4]> = smallvec![];
        while left > 0 {
            let part = left.min(MAX_SEGMENT);
            segments.push((SegmentKind::Sequence, part as u8));
            left -= part;
        }
        segments.reverse();
        self.segments.insert_many(0, segments);
    }
}

impl fmt::Display for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().enumerate() {
            let (open, close) = match segment.kind {
                SegmentKind::Sequence => ("", ""),
                SegmentKind::Set => ("{", "}"),
                SegmentKind::ConfedSequence => ("(", ")"),
                SegmentKind::ConfedSet => ("[", "]"),
            };
            f.write_str(if index > 0 { " " } else { "" })?;
            f.write_str(open)?;
            for (index, asn) in segment.asns.iter().enumerate() {
                write!(f, "{}{asn}", if index > 0 { " " } else { "" })?;
            }
            f.write_str(close)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(asns: &[u32]) -> AsPath {
        AsPath::sequence(asns.iter().copied().map(Asn))
    }

    #[test]
    fn a_set_counts_as_one_and_confederations_as_none() {
        let mut path = AsPath::default();
        path.push(SegmentKind::ConfedSequence, &[Asn(64512), Asn(64513)]);
        path.push(SegmentKind::Sequence, &[Asn(1), Asn(2), Asn(1)]);
        path.push(SegmentKind::Set, &[Asn(3), Asn(4)]);
        assert_eq!(path.length(), 4);
        assert_eq!(path.first_as(), Some(Asn(1)));
        assert_eq!(path.origin_as(), None);
        assert_eq!(path.count(Asn(1)), 2);
        assert_eq!(path.to_string(), "(64512 64513) 1 2 1 {3 4}");
    }

    #[test]
    fn outside_a_confederation_its_segments_are_not_seen() {
        let mut path = AsPath::default();
        path.push(SegmentKind::ConfedSequence, &[Asn(64512), Asn(64513)]);
        path.push(SegmentKind::Sequence, &[Asn(1), Asn(2)]);
        path.push(SegmentKind::ConfedSet, &[Asn(64514)]);
        path.strip_confederation();
        assert_eq!(path, self::path(&[1, 2]));
        path.strip_confederation();
        assert_eq!(path, self::path(&[1, 2]));
    }

    #[test]
    fn a_path_that_begins_with_a_set_has_no_first_as() {
        let mut path = AsPath::default();
        path.push(SegmentKind::Set, &[Asn(3), Asn(4)]);
        assert_eq!(path.first_as(), None);
        path.prepend(Asn(9), 1);
        assert_eq!(path.first_as(), Some(Asn(9)));
        assert_eq!(path.to_string(), "9 {3 4}");
    }

    #[test]
    fn prepending_fills_the_first_sequence_before_it_makes_new_ones() {
        let mut long = path(&[1; 250]);
        long.prepend(Asn(7), 270);
        let lengths: Vec<_> = long.segments().map(|segment| segment.asns.len()).collect();
        assert_eq!(lengths, [10, 255, 255]);
        assert_eq!(long.length(), 520);
        assert_eq!(long.count(Asn(7)), 270);
        assert!(long.asns()[..270].iter().all(|&asn| asn == Asn(7)));

        let mut empty = AsPath::default();
        empty.prepend(Asn(7), 0);
        assert!(empty.is_empty());
        empty.prepend(Asn(7), 2);
        assert_eq!(empty, path(&[7, 7]));
    }
}
