//! RFC 7606, what a table can't say: see `rfc7606_table` for the attributes one by one.

use margay_net::Family;

use super::super::{AfiSafi, AttributeType, PeerKind, ProblemReason, Treatment};
use super::{cidr, context, decode_update, hex, update_message};

/// ORIGIN, AS_PATH 65001, NEXT_HOP 192.0.2.1.
const MANDATORY: &str = "400101 00 400206 02010000fde9 400304 c0000201";
const NLRI: &str = "18 0a0102";

fn external(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    update_message(&hex(withdrawn), &hex(attributes), &hex(nlri))
}

#[test]
fn lengths_that_contradict_the_message_reset_the_session() {
    for (what, body) in [
        ("withdrawn routes beyond the message", "0001 0000"),
        ("withdrawn routes that leave no attribute length", "0002 0000"),
        ("attributes beyond the message", "0000 0001"),
        ("both, as an underflow would have them", "ffff ffff"),
        ("attributes that count the prefixes as theirs and more", "0000 0005 18 0a0102"),
    ] {
        let notification = decode_update(&super::message(2, &hex(body)), &context(PeerKind::External)).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (3, 1), "{what}");
    }
}

#[test]
fn malformed_prefixes_reset_the_session() {
    for (what, withdrawn, nlri) in [
        ("announced /33", "", "21 0a010203 80"),
        ("announced /24 of two octets", "", "18 0a01"),
        ("withdrawn /33", "21 0a010203 80", ""),
        ("withdrawn /32 of no octets", "20", ""),
    ] {
        let message = external(withdrawn, MANDATORY, nlri);
        let notification = decode_update(&message, &context(PeerKind::External)).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (3, 10), "{what}");
    }
}

#[test]
fn an_attribute_that_ends_beyond_the_others_withdraws() {
    for tail in ["40", "4003", "400304 c00002", "50 08 00", "d0 08 ffff 0000", "c0 17 09 00"] {
        let message = external("", &format!("400101 00 400206 02010000fde9 {tail}"), NLRI);
        let update = decode_update(&message, &context(PeerKind::External)).unwrap();
        assert!(update.announced.is_empty(), "{tail}");
        assert_eq!(update.withdrawn[0].prefixes, [cidr("10.1.2.0/24")], "{tail}");
        assert!(matches!(update.problems[0].reason, ProblemReason::Truncated { .. }), "{tail}");
        assert_eq!(update.problems[0].offset, 36, "{tail}");
    }
}

#[test]
fn without_prefixes_what_would_withdraw_resets() {
    for attributes in ["400101 07", "400101 00 400202 0200", "40", "800f03 000201 400101 07"] {
        let notification = decode_update(&external("", attributes, ""), &context(PeerKind::External)).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (3, 1), "{attributes}");
    }
    // What is only discarded doesn't.
    assert!(decode_update(&external("", "400601 00", ""), &context(PeerKind::External)).is_ok());
    // Nor does an MP_UNREACH_NLRI that is alone: its routes are known.
    let update = decode_update(&external("", "c00f05 000201 08 fd", ""), &context(PeerKind::External)).unwrap();
    assert_eq!(update.withdrawn[0].prefixes, [cidr("fd00::/8")]);
}

/// CVE-2023-46753 and CVE-2023-41358: an UPDATE of an unknown attribute alone, or of prefixes alone.
#[test]
fn missing_mandatory_attributes_withdraw_only_if_there_are_prefixes() {
    let update = decode_update(&external("", "e06301 00", ""), &context(PeerKind::External)).unwrap();
    assert!(update.withdrawn.is_empty() && update.announced.is_empty() && update.problems.is_empty());
    assert_eq!(update.end_of_rib, None);

    let missing = |message: &[u8], peer_kind| {
        let update = decode_update(message, &context(peer_kind)).unwrap();
        assert!(update.announced.is_empty() && !update.withdrawn.is_empty());
        assert!(update.problems.iter().all(|problem| problem.reason == ProblemReason::Missing));
        update.problems.iter().map(|problem| problem.attribute.0).collect::<Vec<_>>()
    };
    assert_eq!(missing(&external("", "", NLRI), PeerKind::External), [1, 2, 3]);
    assert_eq!(missing(&external("", "", NLRI), PeerKind::Internal), [1, 2, 3, 5]);
    // CVE-2023-47234: MP_UNREACH_NLRI and prefixes at the end.
    assert_eq!(missing(&external("", "800f03 000201", NLRI), PeerKind::External), [1, 2, 3]);
    // Routes in MP_REACH_NLRI have their next hop there.
    let reach = format!("800e1a 0002 01 10 {} 00 20 fd000001", "20010db8000000000000000000000001");
    assert_eq!(missing(&external("", &reach, ""), PeerKind::External), [1, 2]);
}

#[test]
fn the_first_of_two_counts() {
    let attributes = format!("{MANDATORY} 800404 00000001 800404 00000002 e06301 01 e06301 02 400101 01");
    let update = decode_update(&external("", &attributes, NLRI), &context(PeerKind::External)).unwrap();
    assert_eq!(update.announced[0].attributes.med, Some(1));
    assert_eq!(update.announced[0].attributes.unknown.len(), 1);
    let problems: Vec<_> = update.problems.iter().map(|problem| (problem.attribute.0, problem.treatment)).collect();
    assert_eq!(problems, [4, 99, 1].map(|kind| (kind, Treatment::AttributeDiscard)));
    // A bad first one is no better for a good second one.
    let attributes = format!("{MANDATORY} 800403 000001 800404 00000002");
    let update = decode_update(&external("", &attributes, NLRI), &context(PeerKind::External)).unwrap();
    assert!(update.announced.is_empty());
}

#[test]
fn multiprotocol_attributes_twice_reset_the_session() {
    let reach = format!("800e1a 0002 01 10 {} 00 20 fd000001", "20010db8000000000000000000000001");
    for attributes in [format!("{reach} {reach}"), "800f03 000201 800f03 000201".to_owned()] {
        let notification = decode_update(&external("", &attributes, ""), &context(PeerKind::External)).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (3, 1));
    }
}

#[test]
fn treat_as_withdraw_takes_the_routes_of_every_field() {
    let reach = format!("800e1a 0002 01 10 {} 00 20 fd000001", "20010db8000000000000000000000001");
    let attributes = format!("{MANDATORY} {reach} 800f08 000201 20 fd000002 c00803 000000");
    let message = external("10 0a02", &attributes, NLRI);
    let update = decode_update(&message, &context(PeerKind::External)).unwrap();
    assert!(update.announced.is_empty());
    let withdrawn: Vec<_> =
        update.withdrawn.iter().flat_map(|withdrawal| &withdrawal.prefixes).map(ToString::to_string).collect();
    assert_eq!(withdrawn, ["10.2.0.0/16", "fd00:2::/32", "10.1.2.0/24", "fd00:1::/32"]);
    assert_eq!(update.problems[0].to_string(), "COMMUNITIES at octet 86: length 3 is not allowed; treated as withdraw");
}

#[test]
fn routes_of_another_family_are_ignored() {
    let mut context = context(PeerKind::External);
    context.families = [Family::V6].into_iter().collect();
    let update = decode_update(&external("10 0a02", MANDATORY, NLRI), &context).unwrap();
    assert!(update.announced.is_empty() && update.withdrawn.is_empty());

    context.families = [Family::V4].into_iter().collect();
    // VPNv4, whose next hop and prefixes have another form.
    let attributes = format!("{MANDATORY} 800e13 0001 80 0c 0000000000000000c0000201 00 58 00 800f06 000180 58 00 01");
    let update = decode_update(&external("", &attributes, NLRI), &context).unwrap();
    assert_eq!(update.announced.len(), 1);
    let vpn = ProblemReason::NotNegotiated(AfiSafi { afi: 1, safi: 128 });
    assert_eq!(update.problems.iter().map(|problem| &problem.reason).collect::<Vec<_>>(), [&vpn, &vpn]);
    assert_eq!(update.problems[0].attribute, AttributeType::MP_REACH_NLRI);
}
