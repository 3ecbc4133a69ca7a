//! Attributes that the speaker has no use for and passes on. Their form is checked, since a malformed one that is passed
//! on resets sessions of others far away: routers that do use it.

use super::super::cursor::Cursor;
use super::super::problem::ProblemReason;

/// The first sub-TLV type whose length has two octets (RFC 9012 section 2).
const LONG_SUB_TLV: u8 = 128;

/// Checks that TLVs and the sub-TLVs in them fill the attribute (RFC 9012 sections 2 and 13).
pub(super) fn tunnel_encapsulation(mut value: Cursor<'_>) -> Result<(), ProblemReason> {
    let start = value.offset();
    if value.is_empty() {
        return Err(ProblemReason::Length(0));
    }
    while !value.is_empty() {
        let at = value.offset() - start;
        let tunnel = value.u16().and_then(|_| value.u16()).and_then(|len| value.take(usize::from(len)));
        let mut tunnel = tunnel.ok_or(ProblemReason::Malformed { at, what: "a tunnel beyond the attribute" })?;
        while !tunnel.is_empty() {
            let at = tunnel.offset() - start;
            let sub_tlv = tunnel.u8().and_then(|kind| {
                let len = if kind < LONG_SUB_TLV { u16::from(tunnel.u8()?) } else { tunnel.u16()? };
                tunnel.take(usize::from(len))
            });
            sub_tlv.ok_or(ProblemReason::Malformed { at, what: "a sub-TLV beyond its tunnel" })?;
        }
    }
    Ok(())
}

/// Checks that TLVs fill the attribute (RFC 8669 sections 3 and 6). Type 0 is reserved: what has it is no Prefix-SID but
/// octets of zero.
pub(super) fn prefix_sid(mut value: Cursor<'_>) -> Result<(), ProblemReason> {
    let start = value.offset();
    if value.is_empty() {
        return Err(ProblemReason::Length(0));
    }
    while !value.is_empty() {
        let at = value.offset() - start;
        match value.u8() {
            Some(1..) => {}
            _ => return Err(ProblemReason::Malformed { at, what: "a TLV of the reserved type 0" }),
        }
        let tlv = value.u16().and_then(|len| value.take(usize::from(len)));
        tlv.ok_or(ProblemReason::Malformed { at, what: "a TLV beyond the attribute" })?;
    }
    Ok(())
}
