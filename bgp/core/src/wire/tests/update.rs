use margay_net::Family;

use super::super::{PeerKind, ProblemReason, encode_end_of_rib};
use super::{cidr, context, decode_update, hex, update_message};

const PATH: &str = "400101 00 400206 02010000fde9";
const GLOBAL: &str = "20010db8000000000000000000000001";
const LINK_LOCAL: &str = "fe800000000000000000000000000001";

fn decoded(attributes: &str, nlri: &str) -> super::Update {
    decode_update(&update_message(&[], &hex(attributes), &hex(nlri)), &context(PeerKind::External)).unwrap()
}

#[test]
fn routes_of_both_families_have_a_next_hop_each() {
    let update = decoded(&format!("{PATH} 400304 c0000201 800e17 000201 10 {GLOBAL} 00 08 fd"), "08 0a");
    let next_hops: Vec<_> = update
        .announced
        .iter()
        .map(|routes| (routes.family, routes.attributes.next_hop.unwrap().to_string()))
        .collect();
    assert_eq!(next_hops, [(Family::V4, "192.0.2.1".to_owned()), (Family::V6, "2001:db8::1".to_owned())]);
    assert_eq!(update.announced[0].attributes.as_path, update.announced[1].attributes.as_path);
}

#[test]
fn ipv4_routes_are_taken_from_mp_reach_too() {
    let update = decoded(&format!("{PATH} 800e0b 000101 04 c0000201 00 08 0a"), "");
    assert_eq!(update.announced[0].prefixes, [cidr("10.0.0.0/8")]);
    assert_eq!(update.announced[0].attributes.next_hop, Some("192.0.2.1".parse().unwrap()));
    assert_eq!(update.problems, []);
}

#[test]
fn an_ipv6_next_hop_has_one_form() {
    let unspecified = "00000000000000000000000000000000";
    for (octets, next_hop, link_local) in [
        (format!("10 {GLOBAL}"), "2001:db8::1", None),
        (format!("20 {GLOBAL} {LINK_LOCAL}"), "2001:db8::1", Some("fe80::1")),
        (format!("20 {GLOBAL} {unspecified}"), "2001:db8::1", None),
        (format!("20 {GLOBAL} {GLOBAL}"), "2001:db8::1", None),
        (format!("10 {LINK_LOCAL}"), "fe80::1", None),
        (format!("20 {unspecified} {LINK_LOCAL}"), "fe80::1", None),
        (format!("20 {LINK_LOCAL} {LINK_LOCAL}"), "fe80::1", None),
    ] {
        let len = 5 + hex(&octets).len() - 1 + 2;
        let update = decoded(&format!("{PATH} 800e{len:02x} 000201 {octets} 00 08 fd"), "");
        let attributes = &update.announced[0].attributes;
        assert_eq!(attributes.next_hop, Some(next_hop.parse().unwrap()));
        assert_eq!(attributes.link_local_next_hop, link_local.map(|addr| addr.parse().unwrap()));
    }
    for bad in [unspecified, "00000000000000000000000000000001", "ff020000000000000000000000000001"] {
        let update = decoded(&format!("{PATH} 800e17 000201 10 {bad} 00 08 fd"), "");
        assert!(update.announced.is_empty());
        assert_eq!(update.withdrawn[0].prefixes, [cidr("fd00::/8")]);
        assert!(matches!(update.problems[0].reason, ProblemReason::Value { .. }));
    }
}

#[test]
fn next_hop_beside_mp_reach_alone_is_ignored() {
    let update = decoded(&format!("{PATH} 400304 00000000 800e17 000201 10 {GLOBAL} 00 08 fd"), "");
    assert_eq!(update.announced.len(), 1);
    assert_eq!(update.announced[0].attributes.next_hop, Some("2001:db8::1".parse().unwrap()));
}

#[test]
fn unknown_transitive_attributes_are_kept_as_partial() {
    let update = decoded(&format!("{PATH} 400304 c0000201 c06302 0102 805801 00 d0150001 07"), "08 0a");
    let unknown: Vec<_> =
        update.announced[0].attributes.unknown.iter().map(|raw| (raw.kind.0, raw.flags, raw.value.to_vec())).collect();
    assert_eq!(unknown, [(21, 0xe0, vec![7]), (99, 0xe0, vec![1, 2])]);
}

#[test]
fn communities_are_in_canonical_form() {
    let update = decoded(&format!("{PATH} 400304 c0000201 c0080c 00000002 00000001 00000002"), "08 0a");
    let communities: Vec<_> = update.announced[0].attributes.communities.iter().map(|community| community.0).collect();
    assert_eq!(communities, [1, 2]);
}

#[test]
fn end_of_rib_is_told_for_negotiated_families() {
    let mut context = context(PeerKind::External);
    for family in Family::ALL {
        assert_eq!(decode_update(&encode_end_of_rib(family), &context).unwrap().end_of_rib, Some(family));
    }
    context.families = [Family::V6].into_iter().collect();
    assert_eq!(decode_update(&encode_end_of_rib(Family::V4), &context).unwrap().end_of_rib, None);
    for (withdrawn, attributes, nlri) in
        [("08 0a", "", ""), ("", "800f05 000201 08 fd", ""), ("", "800f03 000201 800404 00000000", "")]
    {
        let message = update_message(&hex(withdrawn), &hex(attributes), &hex(nlri));
        assert_eq!(decode_update(&message, &context).unwrap().end_of_rib, None);
    }
}

#[test]
fn bits_beyond_a_prefix_are_cleared() {
    let update = decoded(&format!("{PATH} 400304 c0000201"), "17 0a01ff 00");
    assert_eq!(update.announced[0].prefixes, [cidr("10.1.254.0/23"), cidr("0.0.0.0/0")]);
}
