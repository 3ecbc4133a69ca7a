use margay_net::{Asn, Cidr, Family};
use proptest::prelude::*;

use super::super::{
    AsPath, Attributes, DecodeContext, Nlri, Notification, PeerKind, UpdateError, encode_announcements,
    encode_withdrawals,
};
use super::{cidr, context, decode_update, hex, message, update_message};

/// A session on which the peer sends several paths in both families.
fn several() -> DecodeContext {
    DecodeContext { add_path: Family::ALL.into_iter().collect(), ..context(PeerKind::External) }
}

fn attributes(next_hop: &str) -> Attributes {
    Attributes { as_path: AsPath::sequence([Asn(65001)]), next_hop: next_hop.parse().ok(), ..Attributes::default() }
}

fn nlri(prefix: &str, path_id: u32) -> Nlri {
    Nlri { prefix: cidr(prefix), path_id: Some(path_id) }
}

#[test]
fn ipv4_paths_have_their_identifier_before_each_prefix() {
    let routes = [nlri("10.1.0.0/16", 1), nlri("10.1.0.0/16", 0x01020304)];
    let announced = encode_announcements(Family::V4, &attributes("192.0.2.1"), routes, true).unwrap();
    let expected = update_message(
        &[],
        &hex("40 01 01 00  40 02 06 02 01 00 00 fd e9  40 03 04 c0 00 02 01"),
        &hex("00 00 00 01 10 0a 01  01 02 03 04 10 0a 01"),
    );
    assert_eq!(announced[..], [&expected[..]]);
    let update = decode_update(&expected, &several()).unwrap();
    assert_eq!(update.announced[0].prefixes, [cidr("10.1.0.0/16"); 2]);
    assert_eq!(update.announced[0].path_ids, [1, 0x01020304]);

    let withdrawn = encode_withdrawals(Family::V4, routes).unwrap();
    let expected = update_message(&hex("00 00 00 01 10 0a 01  01 02 03 04 10 0a 01"), &[], &[]);
    assert_eq!(withdrawn[..], [&expected[..]]);
    let update = decode_update(&expected, &several()).unwrap();
    assert_eq!(
        (&update.withdrawn[0].prefixes[..], &update.withdrawn[0].path_ids[..]),
        (&[cidr("10.1.0.0/16"); 2][..], &[1, 0x01020304][..])
    );
}

#[test]
fn ipv6_paths_have_theirs_in_the_multiprotocol_attributes() {
    let routes = [nlri("fd00::/16", 2)];
    let announced = encode_announcements(Family::V6, &attributes("2001:db8::1"), routes, true).unwrap();
    let expected = update_message(
        &[],
        &hex("80 0e 1c 00 02 01 10 20010db8000000000000000000000001 00  00 00 00 02 10 fd 00
              40 01 01 00  40 02 06 02 01 00 00 fd e9"),
        &[],
    );
    assert_eq!(announced[..], [&expected[..]]);
    let update = decode_update(&expected, &several()).unwrap();
    assert_eq!((update.announced[0].prefixes[0], update.announced[0].path_ids[0]), (cidr("fd00::/16"), 2));
    let withdrawn = encode_withdrawals(Family::V6, routes).unwrap();
    assert_eq!(withdrawn, [update_message(&[], &hex("80 0f 0a 00 02 01  00 00 00 02 10 fd 00"), &[])]);
    let update = decode_update(&withdrawn[0], &several()).unwrap();
    assert_eq!(update.withdrawn[0].path_ids, [2]);
}

#[test]
fn the_families_of_a_session_are_read_each_in_its_own_way() {
    let only_ipv6 = DecodeContext { add_path: [Family::V6].into_iter().collect(), ..context(PeerKind::External) };
    let plain = encode_withdrawals(Family::V4, [cidr("10.0.0.0/8")]).unwrap();
    let update = decode_update(&plain[0], &only_ipv6).unwrap();
    assert_eq!(update.withdrawn[0].prefixes, [cidr("10.0.0.0/8")]);
    assert!(update.withdrawn[0].path_ids.is_empty());
}

/// RFC 7606 section 5.3: prefixes that can't be read reset the session, since the routes they stand for can't be known.
#[test]
fn malformed_paths_reset_the_session_as_malformed_prefixes_do() {
    let well_known = hex("40 01 01 00  40 02 06 02 01 00 00 fd e9  40 03 04 c0 00 02 01");
    for field in
        [&hex("00 00 00")[..], &hex("00 00 00 01"), &hex("00 00 00 01 ff 0a 01 02 03 04"), &hex("00 00 00 01 18 0a")]
    {
        let invalid = Err(Notification::update(UpdateError::InvalidNetworkField));
        assert_eq!(decode_update(&update_message(&[], &well_known, field), &several()), invalid, "{field:?}");
        assert_eq!(decode_update(&update_message(field, &[], &[]), &several()), invalid, "{field:?}");
        let reach = [&hex("00 02 01 10 20010db8000000000000000000000001 00"), field].concat();
        let whole = [&[0x80, 14, reach.len() as u8][..], &reach].concat();
        let error = Notification::update(UpdateError::OptionalAttributeError).with_data(whole.clone());
        assert_eq!(decode_update(&update_message(&[], &whole, &[]), &several()), Err(error));
    }
    // What a peer without ADD-PATH sends looks like nothing that could be read.
    let plain = update_message(&[], &well_known, &hex("18 0a 01 02"));
    assert!(decode_update(&plain, &several()).is_err());
}

#[test]
fn attributes_that_are_malformed_withdraw_the_paths_by_their_identifiers() {
    let bad_origin = hex("40 01 01 09  40 02 06 02 01 00 00 fd e9  40 03 04 c0 00 02 01");
    let update = decode_update(&update_message(&[], &bad_origin, &hex("00 00 00 07 08 0a")), &several()).unwrap();
    assert_eq!((update.withdrawn[0].prefixes[0], update.withdrawn[0].path_ids[0]), (cidr("10.0.0.0/8"), 7));
    assert!(update.announced.is_empty());
}

#[test]
fn the_end_of_rib_markers_are_the_same() {
    assert_eq!(decode_update(&message(2, &[0; 4]), &several()).unwrap().end_of_rib, Some(Family::V4));
    let ipv6 = update_message(&[], &hex("80 0f 03 00 02 01"), &[]);
    assert_eq!(decode_update(&ipv6, &several()).unwrap().end_of_rib, Some(Family::V6));
}

fn routes() -> impl Strategy<Value = (Family, Vec<Nlri>)> {
    prop_oneof![Just(Family::V4), Just(Family::V6)].prop_flat_map(|family| {
        let route = (any::<u128>(), 0..=family.bits(), any::<u32>()).prop_map(move |(bits, len, path_id)| {
            let address = match family {
                Family::V4 => std::net::Ipv4Addr::from_bits(bits as u32).into(),
                Family::V6 => std::net::Ipv6Addr::from_bits(bits).into(),
            };
            Nlri { prefix: Cidr::truncated(address, len).unwrap(), path_id: Some(path_id) }
        });
        (Just(family), prop::collection::vec(route, 1..1500))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn paths_are_read_as_they_were_written((family, routes) in routes()) {
        let next_hop = if family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
        let announced = encode_announcements(family, &attributes(next_hop), routes.clone(), true).unwrap();
        let withdrawn = encode_withdrawals(family, routes.clone()).unwrap();
        let nlri = |(prefix, path_id)| Nlri { prefix, path_id: Some(path_id) };
        let mut read = [Vec::new(), Vec::new()];
        for message in announced.iter().chain(&withdrawn) {
            prop_assert!(message.len() <= 4096);
            let update = decode_update(message, &several()).unwrap();
            for route in update.announced {
                read[0].extend(route.prefixes.into_iter().zip(route.path_ids).map(nlri));
            }
            for route in update.withdrawn {
                read[1].extend(route.prefixes.into_iter().zip(route.path_ids).map(nlri));
            }
        }
        prop_assert_eq!(&read[0], &routes);
        prop_assert_eq!(&read[1], &routes);
    }
}
