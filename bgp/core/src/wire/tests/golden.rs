//! Messages worked out by hand from the RFCs.

use margay_net::{Asn, Family};

use super::super::{
    AfiSafi, AsPath, Attributes, Capability, Cease, Community, Message, Notification, Open, Origin, PeerKind,
    RefreshSubtype, RouteRefresh, decode, encode_announcements, encode_end_of_rib, encode_keepalive,
    encode_notification, encode_open, encode_route_refresh, encode_withdrawals,
};
use super::{cidr, context, decode_update, hex};

const MARKER: &str = "ffffffffffffffff ffffffffffffffff";

fn assert_octets(message: &[u8], expected: &str) {
    assert_eq!(message, hex(&format!("{MARKER} {expected}")));
}

#[test]
fn short_messages_have_their_octets() {
    assert_octets(&encode_keepalive(), "0013 04");
    assert_octets(&encode_end_of_rib(Family::V4), "0017 02 0000 0000");
    assert_octets(&encode_end_of_rib(Family::V6), "001d 02 0000 0006 80 0f 03 0002 01");
    let request = RouteRefresh { family: AfiSafi::IPV6_UNICAST, subtype: RefreshSubtype::Request };
    assert_octets(&encode_route_refresh(request), "0017 05 0002 00 01");
    assert_octets(&encode_notification(&Notification::hold_timer_expired()), "0015 03 04 00");
    let shutdown = Notification::cease_with_communication(Cease::AdministrativeShutdown, "bye");
    assert_octets(&encode_notification(&shutdown), "0019 03 06 02 03 627965");
}

#[test]
fn an_open_has_its_octets() {
    let capabilities = vec![
        Capability::Multiprotocol(AfiSafi::IPV4_UNICAST),
        Capability::RouteRefresh,
        Capability::FourOctetAsn(Asn(70000)),
    ];
    let open = Open::new(Asn(70000), 90, "10.0.0.1".parse().unwrap(), capabilities);
    // 29 octets up to the parameters' length, then a parameter of 14 octets.
    assert_octets(&encode_open(&open), "002d 01 04 5ba0 005a 0a000001 10 02 0e 01 04 0001 00 01 02 00 41 04 00011170");
}

#[test]
fn an_ipv4_announcement_has_its_octets() {
    let attributes = Attributes {
        origin: Origin::Incomplete,
        as_path: AsPath::sequence([Asn(65001), Asn(70000)]),
        next_hop: Some("192.0.2.1".parse().unwrap()),
        med: Some(5),
        communities: vec![Community::new(65001, 100)],
        ..Attributes::default()
    };
    let prefixes = || [cidr("10.1.0.0/16"), cidr("10.2.3.128/25")];
    let four = encode_announcements(Family::V4, &attributes, prefixes(), true).unwrap();
    // Attributes: 4 + 13 + 7 + 7 + 7 = 38 = 0x26; prefixes: 3 + 5 = 8.
    let expected = "0045 02 0000 0026 40 01 01 02 40 02 0a 02 02 0000fde9 00011170 40 03 04 c0000201
        80 04 04 00000005 c0 08 04 fde90064 10 0a01 19 0a020380";
    assert_eq!(four.len(), 1);
    assert_octets(&four[0], expected);

    let two = encode_announcements(Family::V4, &attributes, prefixes(), false).unwrap();
    // AS_PATH is 4 octets shorter, AS4_PATH adds 13: 47 = 0x2f.
    let expected = "004e 02 0000 002f 40 01 01 02 40 02 06 02 02 fde9 5ba0 40 03 04 c0000201
        80 04 04 00000005 c0 08 04 fde90064 c0 11 0a 02 02 0000fde9 00011170 10 0a01 19 0a020380";
    assert_octets(&two[0], expected);

    let mut context = context(PeerKind::External);
    for (message, four_octet_asn) in [(&four[0], true), (&two[0], false)] {
        context.four_octet_asn = four_octet_asn;
        let update = decode_update(message, &context).unwrap();
        assert_eq!(update.announced[0].attributes, attributes);
        assert_eq!(update.announced[0].prefixes, prefixes());
        assert_eq!(update.problems, []);
    }
}

#[test]
fn an_ipv6_announcement_has_its_octets() {
    let attributes = Attributes {
        as_path: AsPath::sequence([Asn(65001)]),
        next_hop: Some("2001:db8::1".parse().unwrap()),
        link_local_next_hop: Some("fe80::1".parse().unwrap()),
        ..Attributes::default()
    };
    let messages = encode_announcements(Family::V6, &attributes, [cidr("2001:db8:1::/48")], true).unwrap();
    // MP_REACH_NLRI comes first: 3 + (2 + 1 + 1 + 32 + 1 + 7 = 44); then 4 + 9: 60 = 0x3c.
    assert_octets(
        &messages[0],
        "0053 02 0000 003c 80 0e 2c 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00
         30 20010db80001 40 01 01 00 40 02 06 02 01 0000fde9",
    );
    let withdrawals = encode_withdrawals(Family::V6, [cidr("2001:db8:1::/48")]).unwrap();
    assert_octets(&withdrawals[0], "0024 02 0000 000d 80 0f 0a 0002 01 30 20010db80001");
    let withdrawals = encode_withdrawals(Family::V4, [cidr("0.0.0.0/0"), cidr("10.0.0.0/8")]).unwrap();
    assert_octets(&withdrawals[0], "001a 02 0003 00 08 0a 0000");
}

#[test]
fn a_route_refresh_is_read_with_its_subtype() {
    let context = context(PeerKind::External);
    for (octet, subtype) in [
        (0, RefreshSubtype::Request),
        (1, RefreshSubtype::Beginning),
        (2, RefreshSubtype::End),
        (3, RefreshSubtype::Unknown(3)),
    ] {
        let refresh = RouteRefresh { family: AfiSafi::IPV4_UNICAST, subtype };
        let message = encode_route_refresh(refresh);
        assert_eq!(message[21], octet);
        assert_eq!(decode(&message, &context), Ok(Message::RouteRefresh(refresh)));
    }
    // RFC 7313 section 5: the whole message is the data.
    let long = super::message(5, &[0, 1, 1, 1, 0]);
    let notification = decode(&long, &context).unwrap_err();
    assert_eq!((notification.code, notification.subcode, notification.data), (7, 1, long));
    // ORF entries after a request are ignored.
    assert!(decode(&super::message(5, &[0, 1, 0, 1, 1, 64, 0, 0]), &context).is_ok());
}

#[test]
fn a_notification_is_read_as_it_was_written() {
    let context = context(PeerKind::External);
    for notification in [
        Notification::hold_timer_expired(),
        Notification::hard_reset(Notification::cease_with_communication(Cease::AdministrativeReset, "ü")),
        Notification::new(200, 200).with_data(vec![7; 4075]),
    ] {
        assert_eq!(decode(&encode_notification(&notification), &context), Ok(Message::Notification(notification)));
    }
    assert_eq!(encode_notification(&Notification::new(6, 9).with_data(vec![0; 70000])).len(), 4096);
}
