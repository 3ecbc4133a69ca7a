//! The names of NOTIFICATION codes and subcodes, as in IANA's registry.

use std::fmt;

pub(super) fn code(code: u8) -> &'static str {
    match code {
        1 => "Message Header Error",
        2 => "OPEN Message Error",
        3 => "UPDATE Message Error",
        4 => "Hold Timer Expired",
        5 => "Finite State Machine Error",
        6 => "Cease",
        7 => "ROUTE-REFRESH Message Error",
        8 => "Send Hold Timer Expired",
        _ => "Unknown Error",
    }
}

pub(super) fn subcode(code: u8, subcode: u8) -> Option<&'static str> {
    Some(match (code, subcode) {
        (1, 1) => "Connection Not Synchronized",
        (1, 2) => "Bad Message Length",
        (1, 3) => "Bad Message Type",
        (2, 1) => "Unsupported Version Number",
        (2, 2) => "Bad Peer AS",
        (2, 3) => "Bad BGP Identifier",
        (2, 4) => "Unsupported Optional Parameter",
        (2, 5) => "Authentication Failure",
        (2, 6) => "Unacceptable Hold Time",
        (2, 7) => "Unsupported Capability",
        (2, 11) => "Role Mismatch",
        (3, 1) => "Malformed Attribute List",
        (3, 2) => "Unrecognized Well-known Attribute",
        (3, 3) => "Missing Well-known Attribute",
        (3, 4) => "Attribute Flags Error",
        (3, 5) => "Attribute Length Error",
        (3, 6) => "Invalid ORIGIN Attribute",
        (3, 7) => "AS Routing Loop",
        (3, 8) => "Invalid NEXT_HOP Attribute",
        (3, 9) => "Optional Attribute Error",
        (3, 10) => "Invalid Network Field",
        (3, 11) => "Malformed AS_PATH",
        (5, 1) => "Receive Unexpected Message in OpenSent State",
        (5, 2) => "Receive Unexpected Message in OpenConfirm State",
        (5, 3) => "Receive Unexpected Message in Established State",
        (6, 1) => "Maximum Number of Prefixes Reached",
        (6, 2) => "Administrative Shutdown",
        (6, 3) => "Peer De-configured",
        (6, 4) => "Administrative Reset",
        (6, 5) => "Connection Rejected",
        (6, 6) => "Other Configuration Change",
        (6, 7) => "Connection Collision Resolution",
        (6, 8) => "Out of Resources",
        (6, 9) => "Hard Reset",
        (6, 10) => "BFD Down",
        (7, 1) => "Invalid Message Length",
        _ => return None,
    })
}

/// The capabilities of IANA's registry that the speaker doesn't know but that a peer may announce.
pub(super) fn capability(code: u8) -> Option<&'static str> {
    Some(match code {
        3 => "outbound route filtering",
        7 => "BGPsec",
        8 => "multiple labels",
        9 => "role",
        67 => "dynamic capability",
        71 => "long-lived graceful restart",
        73 => "FQDN",
        75 => "software version",
        76 => "paths limit",
        128 => "route refresh (pre-standard)",
        _ => return None,
    })
}

/// Writes the data field in hexadecimal, cut after 32 octets so that a log line stays one.
pub(super) fn data(f: &mut fmt::Formatter<'_>, data: &[u8]) -> fmt::Result {
    f.write_str(", data ")?;
    for octet in data.iter().take(32) {
        write!(f, "{octet:02x}")?;
    }
    if data.len() > 32 { write!(f, "... ({} octets)", data.len()) } else { Ok(()) }
}
