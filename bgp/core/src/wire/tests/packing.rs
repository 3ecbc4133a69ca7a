use std::net::{Ipv4Addr, Ipv6Addr};

use margay_net::{Asn, Cidr, Family};

use super::super::{
    AsPath, AttributeType, Attributes, EncodeError, PeerKind, RawAttribute, SegmentKind, encode_announcements,
    encode_withdrawals,
};
use super::{cidr, context, decode_update};

fn attributes(family: Family) -> Attributes {
    let next_hop = match family {
        Family::V4 => "192.0.2.1".parse(),
        Family::V6 => "2001:db8::1".parse(),
    };
    Attributes { as_path: AsPath::sequence([Asn(65001)]), next_hop: next_hop.ok(), ..Attributes::default() }
}

fn hosts(family: Family, count: u32) -> Vec<Cidr> {
    let host = |index: u32| match family {
        Family::V4 => Cidr::host(Ipv4Addr::from_bits(0x0a00_0000 + index).into()),
        Family::V6 => Cidr::host(Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(index)).into()),
    };
    (0..count).map(host).collect()
}

#[test]
fn messages_are_filled_up() {
    for family in Family::ALL {
        let prefixes = hosts(family, 5000);
        let size = 1 + usize::from(family.bits() / 8);
        let announced = encode_announcements(family, &attributes(family), prefixes.clone(), true).unwrap();
        let withdrawn = encode_withdrawals(family, prefixes.clone()).unwrap();
        for messages in [&announced, &withdrawn] {
            for message in &messages[..messages.len() - 1] {
                assert!((4096 - size + 1..=4096).contains(&message.len()), "{}", message.len());
            }
        }
        let context = context(PeerKind::External);
        let read: Vec<_> =
            announced.iter().map(|message| decode_update(message, &context).unwrap().announced.remove(0)).collect();
        assert!(read.iter().all(|announcement| announcement.attributes == attributes(family)));
        assert_eq!(read.into_iter().flat_map(|announcement| announcement.prefixes).collect::<Vec<_>>(), prefixes);
        let read = withdrawn.iter().map(|message| decode_update(message, &context).unwrap().withdrawn.remove(0));
        assert_eq!(read.flat_map(|withdrawal| withdrawal.prefixes).collect::<Vec<_>>(), prefixes);
    }
}

#[test]
fn without_prefixes_there_are_no_messages() {
    assert_eq!(encode_announcements(Family::V4, &attributes(Family::V4), hosts(Family::V4, 0), true), Ok(vec![]));
    assert_eq!(encode_withdrawals(Family::V6, hosts(Family::V6, 0)), Ok(vec![]));
}

#[test]
fn attributes_beyond_a_message_are_an_error() {
    let raw = |len: usize| RawAttribute { kind: AttributeType(99), flags: 0xe0, value: vec![1; len].into() };
    for family in Family::ALL {
        for len in [4096, 65536, 200_000] {
            let attributes = Attributes { unknown: vec![raw(len)], ..attributes(family) };
            let result = encode_announcements(family, &attributes, hosts(family, 1), true);
            assert!(matches!(result, Err(EncodeError::TooLong { max: 4096, .. })), "{result:?}");
        }
        // The largest that leaves room for a prefix, and one octet more.
        let error = |len| {
            let attributes = Attributes { unknown: vec![raw(len)], ..attributes(family) };
            encode_announcements(family, &attributes, hosts(family, 2), true)
        };
        let fits = (3900..4096).rev().find(|&len| error(len).is_ok()).unwrap();
        // Room is kept for two octets of MP_REACH_NLRI's length, of which one prefix needs one.
        let longest = if family == Family::V4 { 4096 } else { 4095 };
        assert_eq!(error(fits).unwrap().iter().map(|message| message.len()).max(), Some(longest));
        assert_eq!(error(fits + 1), Err(EncodeError::TooLong { len: 4097, max: 4096 }));
    }
}

/// CVE-2017-16227: paths of more than 255 numbers.
#[test]
fn a_long_path_is_cut_in_segments() {
    let mut path = AsPath::sequence((0..600).map(|index| Asn(70000 + index)));
    path.prepend(Asn(65001), 300);
    let attributes = Attributes { as_path: path.clone(), ..attributes(Family::V4) };
    let messages = encode_announcements(Family::V4, &attributes, hosts(Family::V4, 1), true).unwrap();
    let update = decode_update(&messages[0], &context(PeerKind::External)).unwrap();
    assert_eq!(update.announced[0].attributes.as_path.asns(), path.asns());
    // With AS4_PATH beside it, the same path is too long for a message of two-octet numbers.
    assert!(encode_announcements(Family::V4, &attributes, hosts(Family::V4, 1), false).is_err());
}

#[test]
fn routes_without_a_fitting_next_hop_are_an_error() {
    let v4 = attributes(Family::V4);
    assert_eq!(
        encode_announcements(Family::V6, &v4, hosts(Family::V6, 0), true),
        Err(EncodeError::NextHop(Family::V6))
    );
    let none = Attributes { next_hop: None, ..v4.clone() };
    assert_eq!(
        encode_announcements(Family::V4, &none, hosts(Family::V4, 0), true),
        Err(EncodeError::NextHop(Family::V4))
    );
    let prefix = cidr("fd00::/64");
    assert_eq!(
        encode_announcements(Family::V4, &v4, [prefix], true),
        Err(EncodeError::PrefixFamily(prefix, Family::V4))
    );
}

#[test]
fn ipv4_routes_can_have_an_ipv6_next_hop() {
    let attributes = attributes(Family::V6);
    let messages = encode_announcements(Family::V4, &attributes, hosts(Family::V4, 3), true).unwrap();
    let mut context = context(PeerKind::External);
    assert!(decode_update(&messages[0], &context).is_err());
    context.extended_next_hop = true;
    let update = decode_update(&messages[0], &context).unwrap();
    assert_eq!(update.announced[0].prefixes, hosts(Family::V4, 3));
    assert_eq!(update.announced[0].attributes, attributes);
}

#[test]
fn attributes_are_in_the_order_of_their_types() {
    let raw = |kind| RawAttribute { kind: AttributeType(kind), flags: 0xe0, value: [1].into() };
    let mut as_path = AsPath::sequence([Asn(70000)]);
    as_path.push(SegmentKind::Set, &[Asn(5)]);
    let attributes = Attributes {
        as_path,
        med: Some(1),
        local_pref: Some(1),
        originator_id: Some(Ipv4Addr::LOCALHOST),
        unknown: vec![raw(13), raw(20), raw(200)],
        ..attributes(Family::V4)
    };
    let message = encode_announcements(Family::V4, &attributes, [cidr("0.0.0.0/0")], false).unwrap().remove(0);
    let mut kinds = Vec::new();
    let mut rest = &message[23..message.len() - 1];
    while let [_, kind, len, after @ ..] = rest {
        kinds.push(*kind);
        rest = &after[usize::from(*len)..];
    }
    assert_eq!(kinds, [1, 2, 3, 4, 5, 9, 13, 17, 20, 200]);
}
