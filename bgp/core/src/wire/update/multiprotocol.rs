//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760).
//!
//! Where these are malformed, the routes that they carry can't be known, so that the session is reset (RFC 7606 sections
//! 5.3, 7.11 and 7.12), with the attribute as the data of the NOTIFICATION (RFC 4760 section 7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::Family;

use super::super::context::{AfiSafi, DecodeContext};
use super::super::cursor::Cursor;
use super::super::nlri::{self, Routes};
use super::super::notification::{Notification, UpdateError};
use super::super::problem::{ProblemReason, Treatment};
use super::attribute::Verdict;

/// Routes of a family with their next hop.
pub(super) struct MpReach {
    pub(super) family: Family,
    pub(super) next_hop: IpAddr,
    pub(super) link_local: Option<Ipv6Addr>,
    pub(super) routes: Routes,
}

/// The family isn't negotiated or not known; such routes are ignored (RFC 4760 section 7).
pub(super) struct Unusable(pub(super) AfiSafi);

/// Reads MP_REACH_NLRI; the first value tells whether it has prefixes at all.
pub(super) fn reach(
    mut value: Cursor<'_>,
    whole: &[u8],
    context: &DecodeContext,
) -> Result<(bool, Result<MpReach, Unusable>), Notification> {
    let malformed = || malformed(whole);
    let family = afi_safi(&mut value).ok_or_else(malformed)?;
    let next_hop = value.u8().and_then(|len| value.take(usize::from(len))).ok_or_else(malformed)?;
    value.u8().ok_or_else(malformed)?;
    let has_prefixes = !value.is_empty();
    let Some(family) = negotiated(family, context) else { return Ok((has_prefixes, Err(Unusable(family)))) };
    let (next_hop, link_local) = self::next_hop(family, next_hop, context).ok_or_else(malformed)?;
    let routes = nlri::read(family, value.rest(), context.add_path.contains(family)).ok_or_else(malformed)?;
    Ok((has_prefixes, Ok(MpReach { family, next_hop, link_local, routes })))
}

/// Reads MP_UNREACH_NLRI.
pub(super) fn unreach(
    mut value: Cursor<'_>,
    whole: &[u8],
    context: &DecodeContext,
) -> Result<Result<(Family, Routes), Unusable>, Notification> {
    let family = afi_safi(&mut value).ok_or_else(|| malformed(whole))?;
    let Some(family) = negotiated(family, context) else { return Ok(Err(Unusable(family))) };
    let routes = nlri::read(family, value.rest(), context.add_path.contains(family)).ok_or_else(|| malformed(whole))?;
    Ok(Ok((family, routes)))
}

fn malformed(whole: &[u8]) -> Notification {
    Notification::update(UpdateError::OptionalAttributeError).with_data(whole)
}

fn afi_safi(value: &mut Cursor<'_>) -> Option<AfiSafi> {
    Some(AfiSafi { afi: value.u16()?, safi: value.u8()? })
}

fn negotiated(family: AfiSafi, context: &DecodeContext) -> Option<Family> {
    family.family().filter(|&family| context.families.contains(family))
}

/// Reads a next hop of a length that the family can have: 4 octets, or 16, or 32 with a link-local one (RFC 2545
/// section 3).
fn next_hop(family: Family, mut value: Cursor<'_>, context: &DecodeContext) -> Option<(IpAddr, Option<Ipv6Addr>)> {
    let ipv6 = family == Family::V6 || context.extended_next_hop;
    match value.remaining() {
        4 if family == Family::V4 => Some((Ipv4Addr::from(value.array::<4>()?).into(), None)),
        16 if ipv6 => Some((Ipv6Addr::from(value.array::<16>()?).into(), None)),
        32 if ipv6 => {
            let global = Ipv6Addr::from(value.array::<16>()?);
            let link_local = Ipv6Addr::from(value.array::<16>()?);
            // Without a global address some speakers send the unspecified one or the link-local one twice, and with one
            // anything in the second place.
            Some(match link_local.is_unicast_link_local() {
                true if global.is_unspecified() || global == link_local => (link_local.into(), None),
                true => (global.into(), Some(link_local)),
                false => (global.into(), None),
            })
        }
        _ => None,
    }
}

impl MpReach {
    /// Checks that the next hop can be one.
    pub(super) fn check_next_hop(&self) -> Verdict<()> {
        match self.next_hop {
            IpAddr::V4(next_hop) => check_ipv4_next_hop(next_hop),
            IpAddr::V6(next_hop) => {
                refuse(next_hop, next_hop.is_unspecified() || next_hop.is_loopback() || next_hop.is_multicast())
            }
        }
    }
}

/// Checks that the address can be that of a host (RFC 4271 section 6.3): not in 0/8 or 127/8, nor multicast or reserved.
pub(super) fn check_ipv4_next_hop(next_hop: Ipv4Addr) -> Verdict<()> {
    refuse(next_hop, matches!(next_hop.octets()[0], 0 | 127 | 224..))
}

fn refuse(next_hop: impl Into<IpAddr>, bad: bool) -> Verdict<()> {
    if bad {
        let value = next_hop.into().to_string();
        return Err((Treatment::TreatAsWithdraw, ProblemReason::Value { value }));
    }
    Ok(())
}
