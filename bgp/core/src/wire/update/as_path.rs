use margay_net::Asn;

use super::super::as_path::{AsPath, SegmentKind};
use super::super::cursor::Cursor;
use super::super::problem::ProblemReason;

/// Reads AS_PATH (RFC 4271 section 4.3, RFC 7606 section 7.2). Confederation segments are for members only: an external
/// peer is none (RFC 5065 section 5).
pub(super) fn read(value: Cursor<'_>, four_octet: bool, external: bool) -> Result<AsPath, ProblemReason> {
    let path = segments(value, four_octet)?;
    if external && path.segments().any(|segment| segment.kind.is_confederation()) {
        return Err(ProblemReason::Malformed { at: 0, what: "a confederation segment from outside" });
    }
    Ok(path)
}

/// Reads AS4_PATH (RFC 6793 section 6), without the confederation segments that must not be in it.
pub(super) fn read_as4(value: Cursor<'_>) -> Result<AsPath, ProblemReason> {
    if value.remaining() < 6 {
        return Err(ProblemReason::Length(value.remaining()));
    }
    let path = segments(value, true)?;
    if !path.segments().any(|segment| segment.kind.is_confederation()) {
        return Ok(path);
    }
    let mut without = AsPath::default();
    for segment in path.segments().filter(|segment| !segment.kind.is_confederation()) {
        without.push(segment.kind, segment.asns);
    }
    Ok(without)
}

fn segments(mut value: Cursor<'_>, four_octet: bool) -> Result<AsPath, ProblemReason> {
    let start = value.offset();
    let size = if four_octet { 4 } else { 2 };
    let mut path = AsPath::default();
    path.reserve(value.remaining().saturating_sub(2) / size);
    while !value.is_empty() {
        let at = value.offset() - start;
        let malformed = |what| ProblemReason::Malformed { at, what };
        let [kind, len] = value.array().ok_or_else(|| malformed("a segment without length"))?;
        let kind = SegmentKind::from_wire(kind).ok_or_else(|| malformed("a segment of unknown type"))?;
        if len == 0 {
            return Err(malformed("an empty segment"));
        }
        let mut asns =
            value.take(usize::from(len) * size).ok_or_else(|| malformed("a segment longer than the attribute"))?;
        path.push_segment(
            kind,
            len,
            std::iter::from_fn(|| if four_octet { asns.u32() } else { asns.u16().map(u32::from) }).map(Asn),
        );
    }
    // RFC 7607 section 2.
    if path.contains(Asn(0)) { Err(ProblemReason::AsZero) } else { Ok(path) }
}
