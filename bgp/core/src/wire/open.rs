//! The grammar of OPEN (RFC 4271 section 4.2) and of capabilities (RFC 5492), with extended optional parameters
//! (RFC 9072).

use std::net::Ipv4Addr;

use margay_net::Asn;
use nom::bytes::complete::tag;
use nom::combinator::{all_consuming, map_opt, rest};
use nom::multi::{length_data, many0};
use nom::number::complete::{be_u8, be_u16, be_u32};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::capability::{AddPath, Capability, ExtendedNextHop, GracefulRestart, GracefulRestartFamily, code};
use super::context::AfiSafi;
use super::message::Open;
use super::notification::{Notification, OpenError};

pub(super) const VERSION: u8 = 4;
/// The parameter that carries capabilities.
pub(super) const CAPABILITIES: u8 = 2;
/// The parameter type that announces extended lengths (RFC 9072 section 2).
pub(super) const EXTENDED: u8 = 255;

pub(super) const RESTARTING: u16 = 0x8000;
pub(super) const NOTIFICATION: u16 = 0x4000;
pub(super) const RESTART_TIME: u16 = 0x0fff;
pub(super) const FORWARDING_PRESERVED: u8 = 0x80;

/// A parameter or a capability that isn't looked into yet.
type Tlv<'a> = (u8, &'a [u8]);

/// Reads the body of an OPEN.
pub(super) fn decode(body: &[u8]) -> Result<Open, Notification> {
    let refuse = |error| Err(Notification::open(error));
    let malformed = |_| Notification::open(OpenError::Unspecific);
    let (body, version) = byte(body).map_err(malformed)?;
    if version != VERSION {
        return Err(Notification::open(OpenError::UnsupportedVersion).with_data([0, VERSION]));
    }
    let (parameters, (asn_on_wire, hold_time, router_id)) = fixed(body).map_err(malformed)?;
    if matches!(hold_time, 1 | 2) {
        return refuse(OpenError::UnacceptableHoldTime);
    }
    // RFC 6286: any number but zero, whether it looks like an address or not.
    if router_id == 0 {
        return refuse(OpenError::BadBgpIdentifier);
    }
    let (_, parameters) = self::parameters(parameters).map_err(malformed)?;
    let mut capabilities = Vec::new();
    for (kind, value) in parameters {
        if kind != CAPABILITIES {
            return refuse(OpenError::UnsupportedOptionalParameter);
        }
        for (code, value) in all_consuming(many0(tlv)).parse(value).map_err(malformed)?.1 {
            capabilities.push(capability(code, value).map_err(malformed)?);
        }
    }
    let four_octet = capabilities.iter().find_map(|capability| match capability {
        Capability::FourOctetAsn(asn) => Some(*asn),
        _ => None,
    });
    let asn = four_octet.unwrap_or(Asn(u32::from(asn_on_wire)));
    // RFC 7607 section 2.
    if asn.0 == 0 || asn_on_wire == 0 {
        return refuse(OpenError::BadPeerAs);
    }
    Ok(Open { asn, asn_on_wire, hold_time, router_id: Ipv4Addr::from_bits(router_id), capabilities })
}

fn byte(input: &[u8]) -> IResult<&[u8], u8> {
    be_u8(input)
}

/// My Autonomous System, Hold Time, BGP Identifier.
fn fixed(input: &[u8]) -> IResult<&[u8], (u16, u16, u32)> {
    (be_u16, be_u16, be_u32).parse(input)
}

/// The optional parameters and the end of the message.
fn parameters(input: &[u8]) -> IResult<&[u8], Vec<Tlv<'_>>> {
    match input {
        // The first length is of no meaning then, but zero says that there are none.
        [1..=u8::MAX, EXTENDED, ..] => {
            let lengths = preceded((be_u8, tag(&[EXTENDED][..])), length_data(be_u16));
            all_consuming(lengths.and_then(all_consuming(many0(extended_tlv)))).parse(input)
        }
        _ => all_consuming(length_data(be_u8).and_then(all_consuming(many0(tlv)))).parse(input),
    }
}

fn tlv(input: &[u8]) -> IResult<&[u8], Tlv<'_>> {
    (be_u8, length_data(be_u8)).parse(input)
}

fn extended_tlv(input: &[u8]) -> IResult<&[u8], Tlv<'_>> {
    (be_u8, length_data(be_u16)).parse(input)
}

type ParseError<'a> = nom::Err<nom::error::Error<&'a [u8]>>;

/// One capability. Only those that decide how messages are read are refused when malformed.
fn capability(code: u8, value: &[u8]) -> Result<Capability, ParseError<'_>> {
    let unknown = || Capability::Unknown { code, value: value.to_vec() };
    let parsed = match code {
        code::MULTIPROTOCOL => return Ok(multiprotocol(value)?.1),
        code::FOUR_OCTET_ASN => return Ok(four_octet_asn(value)?.1),
        code::ROUTE_REFRESH => empty(Capability::RouteRefresh, value),
        code::EXTENDED_MESSAGE => empty(Capability::ExtendedMessage, value),
        code::ENHANCED_ROUTE_REFRESH => empty(Capability::EnhancedRouteRefresh, value),
        code::EXTENDED_NEXT_HOP => extended_next_hop(value),
        code::GRACEFUL_RESTART => graceful_restart(value),
        code::ADD_PATH => add_path(value),
        _ => return Ok(unknown()),
    };
    Ok(parsed.map_or_else(|_| unknown(), |(_, capability)| capability))
}

fn multiprotocol(input: &[u8]) -> IResult<&[u8], Capability> {
    all_consuming((be_u16, be_u8, be_u8))
        .map(|(afi, _, safi)| Capability::Multiprotocol(AfiSafi { afi, safi }))
        .parse(input)
}

fn four_octet_asn(input: &[u8]) -> IResult<&[u8], Capability> {
    all_consuming(be_u32).map(|asn| Capability::FourOctetAsn(Asn(asn))).parse(input)
}

fn empty(capability: Capability, input: &[u8]) -> IResult<&[u8], Capability> {
    let (input, value) = rest(input)?;
    if value.is_empty() {
        Ok((input, capability))
    } else {
        Err(nom::Err::Error(nom::error::make_error(value, nom::error::ErrorKind::Eof)))
    }
}

fn extended_next_hop(input: &[u8]) -> IResult<&[u8], Capability> {
    // SAFI has two octets here and one everywhere else.
    let family = map_opt((be_u16, be_u16, be_u16), |(afi, safi, next_hop_afi)| {
        Some(ExtendedNextHop { family: AfiSafi { afi, safi: u8::try_from(safi).ok()? }, next_hop_afi })
    });
    all_consuming(many0(family)).map(Capability::ExtendedNextHop).parse(input)
}

fn graceful_restart(input: &[u8]) -> IResult<&[u8], Capability> {
    let family = (be_u16, be_u8, be_u8).map(|(afi, safi, flags)| GracefulRestartFamily {
        family: AfiSafi { afi, safi },
        forwarding_preserved: flags & FORWARDING_PRESERVED != 0,
    });
    all_consuming((be_u16, many0(family)))
        .map(|(flags, families)| {
            Capability::GracefulRestart(GracefulRestart {
                restarting: flags & RESTARTING != 0,
                notification: flags & NOTIFICATION != 0,
                restart_time: flags & RESTART_TIME,
                families,
            })
        })
        .parse(input)
}

fn add_path(input: &[u8]) -> IResult<&[u8], Capability> {
    let family = (be_u16, be_u8, be_u8).map(|(afi, safi, direction)| {
        // RFC 7911 section 4: another value is ignored.
        let known = direction <= 3;
        AddPath {
            family: AfiSafi { afi, safi },
            receive: known && direction & 1 != 0,
            send: known && direction & 2 != 0,
        }
    });
    all_consuming(many0(family)).map(Capability::AddPath).parse(input)
}
