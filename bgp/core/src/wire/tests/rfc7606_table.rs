//! RFC 7606 attribute by attribute: what comes beside good mandatory attributes, and what it leads to for an external
//! and for an internal peer. See `rfc7606_matrix` for all flags and lengths.

use super::super::{DecodeContext, FLAG_EXTENDED_LENGTH, PeerKind, Treatment, Update, encode_announcements};
use super::{cidr, context, decode_update, hex, update_message};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    Discard,
    Withdraw,
    Reset(u8),
}

use Outcome::{Discard, Reset, Taken, Withdraw};

/// What, the attribute in hexadecimal, for an external peer, for an internal one.
type Case = (&'static str, &'static str, Outcome, Outcome);

const ORIGIN: &str = "400101 00";
const AS_PATH: &str = "400206 02010000fde9";
const TWO_OCTET_AS_PATH: &str = "400204 0201fde9";
const NEXT_HOP: &str = "400304 c0000201";
const LOCAL_PREF: &str = "400504 00000064";

fn outcome(attribute: &str, peer_kind: PeerKind) -> Outcome {
    outcome_of(&hex(attribute), &context(peer_kind))
}

/// Puts the attribute in place of the good one of its type and tells what became of the route. What is taken from the
/// message, and may go on to others, has the attribute only where it was taken.
pub(super) fn outcome_of(octets: &[u8], context: &DecodeContext) -> Outcome {
    let peer_kind = context.peer_kind;
    let as_path = if context.four_octet_asn { AS_PATH } else { TWO_OCTET_AS_PATH };
    let mut attributes = Vec::new();
    for (kind, good) in [(1, ORIGIN), (2, as_path), (3, NEXT_HOP), (5, LOCAL_PREF)] {
        if octets[1] != kind && (kind != 5 || peer_kind == PeerKind::Internal) {
            attributes.extend(hex(good));
        }
    }
    attributes.extend(octets);
    let message = update_message(&[], &attributes, &hex("18 0a0102"));
    match decode_update(&message, context) {
        Err(notification) => {
            assert_eq!(notification.code, 3);
            assert_eq!(notification.data, octets, "the data is the attribute");
            Reset(notification.subcode)
        }
        Ok(update) => {
            assert!(update.problems.len() <= 1, "{:?}", update.problems);
            let routes = |withdrawn: usize, announced: usize| {
                let prefix = [cidr("10.1.2.0/24")];
                assert_eq!((update.withdrawn.len(), update.announced.len()), (withdrawn, announced));
                update.withdrawn.iter().for_each(|withdrawal| assert_eq!(withdrawal.prefixes, prefix));
                update.announced.iter().for_each(|announcement| assert_eq!(announcement.prefixes, prefix));
            };
            match update.problems.first() {
                None => {
                    routes(0, 1);
                    Taken
                }
                Some(problem) => {
                    assert_eq!(problem.attribute.0, octets[1]);
                    match problem.treatment {
                        Treatment::AttributeDiscard => {
                            routes(0, 1);
                            assert!(!goes_on(&update, octets[1]), "what is discarded goes no further");
                            Discard
                        }
                        Treatment::TreatAsWithdraw => {
                            routes(1, 0);
                            Withdraw
                        }
                    }
                }
            }
        }
    }
}

/// Whether the announced routes have an attribute of the type when they are sent on to another four-octet peer.
pub(super) fn goes_on(update: &Update, kind: u8) -> bool {
    let routes = &update.announced[0];
    let sent = encode_announcements(routes.family, &routes.attributes, routes.prefixes.clone(), true).unwrap();
    let sent = &sent[0];
    let mut rest = &sent[23..23 + usize::from(u16::from_be_bytes([sent[21], sent[22]]))];
    while let [flags, sent, len, ..] = *rest {
        if sent == kind {
            return true;
        }
        let long = flags & FLAG_EXTENDED_LENGTH != 0;
        let len = if long { 4 + usize::from(u16::from_be_bytes([len, rest[3]])) } else { 3 + usize::from(len) };
        rest = &rest[len..];
    }
    false
}

fn check(cases: &[Case]) {
    for &(what, attribute, external, internal) in cases {
        assert_eq!(outcome(attribute, PeerKind::External), external, "{what}, external");
        assert_eq!(outcome(attribute, PeerKind::Internal), internal, "{what}, internal");
    }
}

#[test]
fn well_known_attributes() {
    check(&[
        ("ORIGIN egp", "400101 01", Taken, Taken),
        ("ORIGIN with two octets of length", "50010001 02", Taken, Taken),
        ("ORIGIN with the partial bit", "600101 00", Taken, Taken),
        ("ORIGIN with unused bits", "4f0101 00", Taken, Taken),
        ("ORIGIN 3", "400101 03", Withdraw, Withdraw),
        ("ORIGIN of no octet", "400100", Withdraw, Withdraw),
        ("ORIGIN of two octets", "400102 0000", Withdraw, Withdraw),
        ("ORIGIN optional", "c00101 00", Withdraw, Withdraw),
        ("ORIGIN not transitive", "000101 00", Withdraw, Withdraw),
        ("AS_PATH empty", "400200", Taken, Taken),
        ("AS_PATH with a set", "40020c 02010000fde9 0101 0000fdea", Taken, Taken),
        ("AS_PATH with a segment of type 0", "400206 00010000fde9", Withdraw, Withdraw),
        ("AS_PATH with a segment of type 5", "400206 05010000fde9", Withdraw, Withdraw),
        ("AS_PATH with an empty segment", "400202 0200", Withdraw, Withdraw),
        ("AS_PATH with a segment too long", "400206 02020000fde9", Withdraw, Withdraw),
        ("AS_PATH with an octet left", "400207 02010000fde9 02", Withdraw, Withdraw),
        ("AS_PATH of two-octet numbers", "400204 0201fde9", Withdraw, Withdraw),
        ("AS_PATH with AS 0", "400206 020100000000", Withdraw, Withdraw),
        ("AS_PATH with AS 0 in a set", "40020c 02010000fde9 0101 00000000", Withdraw, Withdraw),
        ("AS_PATH with a confederation sequence", "400206 03010000fde9", Withdraw, Taken),
        ("AS_PATH with a confederation set", "40020c 02010000fde9 0401 0000fdea", Withdraw, Taken),
        ("AS_PATH optional", "c00206 02010000fde9", Withdraw, Withdraw),
        // CVE-2026-30405 is the first.
        ("NEXT_HOP of three octets", "400303 c00002", Withdraw, Withdraw),
        ("NEXT_HOP of no octet", "400300", Withdraw, Withdraw),
        ("NEXT_HOP of 16 octets", "400310 20010db8000000000000000000000001", Withdraw, Withdraw),
        ("NEXT_HOP 0.0.0.0", "400304 00000000", Withdraw, Withdraw),
        ("NEXT_HOP 0.1.2.3", "400304 00010203", Withdraw, Withdraw),
        ("NEXT_HOP 127.0.0.1", "400304 7f000001", Withdraw, Withdraw),
        ("NEXT_HOP 224.0.0.1", "400304 e0000001", Withdraw, Withdraw),
        ("NEXT_HOP 255.255.255.255", "400304 ffffffff", Withdraw, Withdraw),
        ("NEXT_HOP optional", "c00304 c0000201", Withdraw, Withdraw),
        ("LOCAL_PREF", "400504 ffffffff", Discard, Taken),
        ("LOCAL_PREF of three octets", "400503 000064", Discard, Withdraw),
        ("LOCAL_PREF of five octets", "400505 0000000064", Discard, Withdraw),
        ("LOCAL_PREF optional", "c00504 00000064", Discard, Withdraw),
        ("ATOMIC_AGGREGATE", "400600", Taken, Taken),
        ("ATOMIC_AGGREGATE of one octet", "400601 00", Discard, Discard),
        ("ATOMIC_AGGREGATE optional", "c00600", Withdraw, Withdraw),
        ("an unknown well-known attribute", "406302 0001", Reset(2), Reset(2)),
        ("an unknown one that isn't even transitive", "006300", Reset(2), Reset(2)),
    ]);
}

#[test]
fn optional_attributes() {
    check(&[
        ("MED", "800404 ffffffff", Taken, Taken),
        ("MED of no octet", "800400", Withdraw, Withdraw),
        ("MED of eight octets", "800408 0000000000000000", Withdraw, Withdraw),
        ("MED transitive", "c00404 00000000", Withdraw, Withdraw),
        ("MED well-known", "400404 00000000", Withdraw, Withdraw),
        ("AGGREGATOR", "c00708 0000fde9 c0000201", Taken, Taken),
        ("AGGREGATOR of two-octet numbers", "c00706 fde9 c0000201", Discard, Discard),
        ("AGGREGATOR of no octet", "c00700", Discard, Discard),
        ("AGGREGATOR of nine octets", "c00709 0000fde9 c0000201 00", Discard, Discard),
        ("AGGREGATOR of AS 0", "c00708 00000000 c0000201", Discard, Discard),
        ("AGGREGATOR not transitive", "800708 0000fde9 c0000201", Withdraw, Withdraw),
        ("COMMUNITIES", "c00808 fde90064 fde90065", Taken, Taken),
        ("COMMUNITIES empty", "c00800", Withdraw, Withdraw),
        ("COMMUNITIES of five octets", "c00805 fde9006400", Withdraw, Withdraw),
        ("COMMUNITIES not transitive", "800804 fde90064", Withdraw, Withdraw),
        ("ORIGINATOR_ID", "800904 0a000001", Discard, Taken),
        ("ORIGINATOR_ID of three octets", "800903 0a0000", Discard, Withdraw),
        ("ORIGINATOR_ID transitive", "c00904 0a000001", Discard, Withdraw),
        ("CLUSTER_LIST", "800a08 0a000001 0a000002", Discard, Taken),
        ("CLUSTER_LIST empty", "800a00", Discard, Withdraw),
        ("CLUSTER_LIST of six octets", "800a06 0a0000010a00", Discard, Withdraw),
        ("EXTENDED COMMUNITIES", "c01008 0002fde900000064", Taken, Taken),
        ("EXTENDED COMMUNITIES empty", "c01000", Withdraw, Withdraw),
        ("EXTENDED COMMUNITIES of seven octets", "c01007 0002fde9000000", Withdraw, Withdraw),
        ("AS4_PATH from a four-octet peer", "c01106 02010000fde9", Discard, Discard),
        ("AS4_AGGREGATOR from a four-octet peer", "c01208 0000fde9 c0000201", Discard, Discard),
        // CVE-2026-37461 is the second.
        ("IPv6 EXTENDED COMMUNITIES", "c01914 0002 20010db8000000000000000000000001 0064", Taken, Taken),
        (
            "IPv6 EXTENDED COMMUNITIES of 19 octets",
            "c01913 0002 20010db8000000000000000000000001 00",
            Withdraw,
            Withdraw,
        ),
        ("IPv6 EXTENDED COMMUNITIES empty", "c01900", Withdraw, Withdraw),
        ("LARGE_COMMUNITY", "c0200c 0000fde9 00000001 00000002", Taken, Taken),
        ("LARGE_COMMUNITY empty", "c02000", Withdraw, Withdraw),
        ("LARGE_COMMUNITY of eight octets", "c02008 0000fde9 00000001", Withdraw, Withdraw),
        ("OTC", "c02304 0000fde9", Taken, Taken),
        ("OTC of two octets", "c02302 fde9", Withdraw, Withdraw),
        ("OTC not transitive", "802304 0000fde9", Withdraw, Withdraw),
        ("Tunnel Encapsulation of VXLAN", "c01712 0008 000e 060a 00000000 0001 c0000201 0400", Taken, Taken),
        ("Tunnel Encapsulation with a sub-TLV of long type", "c01708 0008 0004 80 0001 ff", Taken, Taken),
        ("Tunnel Encapsulation with a sub-TLV beyond its tunnel", "c0170a 0008 0006 06ff 00000000", Withdraw, Withdraw),
        ("Tunnel Encapsulation with half a sub-TLV", "c01705 0008 0001 06", Withdraw, Withdraw),
        ("Tunnel Encapsulation with half a long length", "c01706 0008 0002 8000", Withdraw, Withdraw),
        ("Tunnel Encapsulation with a tunnel beyond it", "c01704 0008 0001", Withdraw, Withdraw),
        ("Prefix-SID with a label index", "c0280a 01 0007 00 0000 00000064", Taken, Taken),
        ("Prefix-SID with a TLV of unknown type", "c02803 ff 0000", Taken, Taken),
        ("Prefix-SID with a TLV beyond it", "c0280a 01 0008 00 0000 00000064", Discard, Discard),
        ("Prefix-SID of zeros", "c02809 000000 000000 000000", Discard, Discard),
        ("Prefix-SID not transitive", "80280a 01 0007 00 0000 00000064", Discard, Discard),
        // Not known, as those of other deprecated types.
        ("AS_PATHLIMIT", "c01505 ff 0000fde9", Taken, Taken),
        ("AS_PATHLIMIT of no octet", "c01500", Taken, Taken),
        ("an unknown transitive attribute", "c06303 010203", Taken, Taken),
        ("an unknown one that isn't transitive", "806303 010203", Taken, Taken),
    ]);
}

#[test]
fn multiprotocol_attributes() {
    check(&[
        ("MP_REACH_NLRI of no octet", "800e00", Reset(9), Reset(9)),
        ("MP_REACH_NLRI without next hop", "800e03 000201", Reset(9), Reset(9)),
        ("MP_REACH_NLRI with a next hop beyond it", "800e05 000201 10 20", Reset(9), Reset(9)),
        ("MP_REACH_NLRI without reserved octet", "800e08 000201 04 c0000201", Reset(9), Reset(9)),
        ("MP_REACH_NLRI with a next hop of no octet", "800e07 000201 00 00 08 fd", Reset(9), Reset(9)),
        ("MP_REACH_NLRI with an IPv4 next hop", "800e0b 000201 04 c0000201 00 08 fd", Reset(9), Reset(9)),
        (
            "MP_REACH_NLRI of IPv4 with an IPv6 next hop that isn't negotiated",
            "800e17 000101 10 20010db8000000000000000000000001 00 08 0a",
            Reset(9),
            Reset(9),
        ),
        (
            "MP_REACH_NLRI with /129",
            "800e27 000201 10 20010db8000000000000000000000001 00 81 20010db80000000000000000000000010f",
            Reset(9),
            Reset(9),
        ),
        (
            "MP_REACH_NLRI with a prefix too short",
            "800e17 000201 10 20010db8000000000000000000000001 00 10 fd",
            Reset(9),
            Reset(9),
        ),
        ("MP_UNREACH_NLRI of two octets", "800f02 0002", Reset(9), Reset(9)),
        ("MP_UNREACH_NLRI with /129", "800f04 000201 81", Reset(9), Reset(9)),
        ("MP_UNREACH_NLRI of VPNv6", "800f04 000280 81", Discard, Discard),
    ]);
}
