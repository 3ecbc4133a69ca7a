use bytes::{BufMut, Bytes};

use super::super::capability::{Capability, code};
use super::super::context::AfiSafi;
use super::super::header::{self, HEADER_LEN, MAX_MESSAGE};
use super::super::message::Open;
use super::super::open::{
    CAPABILITIES, EXTENDED, FORWARDING_PRESERVED, NOTIFICATION, RESTART_TIME, RESTARTING, VERSION,
};
use super::begin;

/// Version, My Autonomous System, Hold Time and BGP Identifier.
const FIXED: usize = 9;
/// The lengths of extended optional parameters, and the head of the only one.
const EXTENDED_HEADS: usize = 4 + 3;

/// Encodes an OPEN with all capabilities in one optional parameter, of extended length (RFC 9072) only where they need
/// it. A capability that no OPEN can carry, because its value is beyond 255 octets or the message full, is left out.
pub fn encode_open(open: &Open) -> Bytes {
    let mut capabilities = Vec::new();
    let mut value = Vec::new();
    for capability in &open.capabilities {
        value.clear();
        let code = write_value(&mut value, capability);
        let Ok(len) = u8::try_from(value.len()) else { continue };
        if HEADER_LEN + FIXED + EXTENDED_HEADS + capabilities.len() + 2 + value.len() <= MAX_MESSAGE {
            capabilities.extend_from_slice(&[code, len]);
            capabilities.extend_from_slice(&value);
        }
    }
    let parameters = parameters(&capabilities);
    let mut message = begin(header::OPEN, HEADER_LEN + FIXED + parameters.len());
    message.put_u8(VERSION);
    message.put_u16(open.asn_on_wire);
    message.put_u16(open.hold_time);
    message.put_slice(&open.router_id.octets());
    message.put_slice(&parameters);
    message.freeze()
}

/// Returns the optional parameters with their length.
fn parameters(capabilities: &[u8]) -> Vec<u8> {
    let len = capabilities.len();
    let mut parameters = match u8::try_from(len) {
        Ok(0) => vec![0],
        Ok(len @ ..=252) => vec![len + 2, CAPABILITIES, len],
        _ => {
            let [all_high, all_low] = (len as u16 + 3).to_be_bytes();
            let [high, low] = (len as u16).to_be_bytes();
            vec![EXTENDED, EXTENDED, all_high, all_low, CAPABILITIES, high, low]
        }
    };
    parameters.extend_from_slice(capabilities);
    parameters
}

/// Appends the value of a capability and returns its code.
fn write_value(buf: &mut Vec<u8>, capability: &Capability) -> u8 {
    match capability {
        Capability::Multiprotocol(AfiSafi { afi, safi }) => {
            buf.put_u16(*afi);
            buf.put_slice(&[0, *safi]);
            code::MULTIPROTOCOL
        }
        Capability::RouteRefresh => code::ROUTE_REFRESH,
        Capability::ExtendedNextHop(families) => {
            for family in families {
                buf.put_u16(family.family.afi);
                buf.put_u16(u16::from(family.family.safi));
                buf.put_u16(family.next_hop_afi);
            }
            code::EXTENDED_NEXT_HOP
        }
        Capability::ExtendedMessage => code::EXTENDED_MESSAGE,
        Capability::GracefulRestart(restart) => {
            let flag = |set, bit| if set { bit } else { 0 };
            buf.put_u16(
                flag(restart.restarting, RESTARTING)
                    | flag(restart.notification, NOTIFICATION)
                    | restart.restart_time.min(RESTART_TIME),
            );
            for family in &restart.families {
                buf.put_u16(family.family.afi);
                let flags = if family.forwarding_preserved { FORWARDING_PRESERVED } else { 0 };
                buf.put_slice(&[family.family.safi, flags]);
            }
            code::GRACEFUL_RESTART
        }
        Capability::FourOctetAsn(asn) => {
            buf.put_u32(asn.0);
            code::FOUR_OCTET_ASN
        }
        Capability::AddPath(families) => {
            for family in families {
                buf.put_u16(family.family.afi);
                buf.put_slice(&[family.family.safi, u8::from(family.receive) | u8::from(family.send) << 1]);
            }
            code::ADD_PATH
        }
        Capability::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
        Capability::Unknown { code, value } => {
            buf.extend_from_slice(value);
            *code
        }
    }
}
