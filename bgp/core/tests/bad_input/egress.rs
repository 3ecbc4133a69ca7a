//! What is taken must be fit to be told to others: their sessions are at stake.

use margay_bgp_core::FsmState;

use crate::world::{PEER_ASN, World, hex, update};

/// An AS_PATH of sequences with `hops` AS numbers in all, as an attribute.
fn as_path(hops: usize) -> Vec<u8> {
    let mut value = Vec::new();
    let mut left = hops;
    while left > 0 {
        let part = left.min(255);
        value.extend([2, part as u8]);
        (0..part).for_each(|_| value.extend(PEER_ASN.to_be_bytes()));
        left -= part;
    }
    let mut attribute = vec![0x50, 2];
    attribute.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    attribute.extend(value);
    attribute
}

/// CVE-2017-16227: the AS put before a full segment must get one of its own.
#[test]
fn an_as_path_beyond_255_hops_goes_on_well_formed() {
    for hops in [254, 255, 256, 509, 510, 511, 1000] {
        let (mut world, connection) = World::at(FsmState::Established, false);
        world.told_to_witness();
        let mut attributes = hex("400101 00 400304 c0000202");
        attributes.extend(as_path(hops));
        world.receive(connection, &update(&[], &attributes, &hex("18 0a0909")));
        assert!(world.has("10.9.9.0/24"), "{hops} hops");
        let told = world.told_to_witness();
        assert_eq!(told.len(), 1, "{hops} hops");
        assert_eq!(told[0].problems, []);
        let path = &told[0].announced[0].attributes.as_path;
        assert_eq!(path.length() as usize, hops + 1);
        assert!(path.segments().all(|segment| segment.asns.len() <= 255));
    }
}

/// A message that is full when it comes is too long with the AS put before the path.
#[test]
fn a_route_whose_attributes_fill_a_message_is_used_and_not_announced() {
    for spare in 0..12 {
        let (mut world, connection) = World::at(FsmState::Established, false);
        world.told_to_witness();
        let mut attributes = world.mandatory();
        // The header, the two lengths, the prefix, and the head of the attribute that fills up the rest.
        let fill = 4096 - 19 - 4 - 4 - 4 - attributes.len() - spare;
        attributes.extend([0xf0, 99]);
        attributes.extend(u16::try_from(fill).unwrap().to_be_bytes());
        attributes.extend(std::iter::repeat_n(0x55, fill));
        world.receive(connection, &update(&[], &attributes, &hex("18 0a0909")));
        assert!(world.has("10.9.9.0/24"), "{spare} octets to spare");
        let told = world.told_to_witness();
        assert!(told.iter().all(|update| update.problems.is_empty()));
        world.assert_witness_unharmed("a full message");
    }
}

/// Of the incident of October 2025: what is malformed isn't passed on, what is well-formed is, as it came.
#[test]
fn an_attribute_that_is_not_understood_goes_on_as_it_came_and_a_malformed_one_does_not() {
    for (attribute, kind, goes_on) in [
        ("c02304 0000fde9", 35, Some("0000fde9")),
        ("c02303 00fde9", 35, None),
        ("c0280a 01 0007 00 0000 00000064", 40, Some("010007 00 0000 00000064")),
        ("c02803 000000", 40, None),
        ("c06303 010203", 99, Some("010203")),
        ("806303 010203", 99, None),
        ("801a0b 01 000b 0000000000000001", 26, None),
    ] {
        let (mut world, connection) = World::at(FsmState::Established, false);
        world.told_to_witness();
        let mut attributes = world.mandatory();
        attributes.extend(hex(attribute));
        world.receive(connection, &update(&[], &attributes, &hex("18 0a0909")));
        let told = world.told_to_witness();
        let unknown = told.iter().flat_map(|update| &update.announced).flat_map(|routes| &routes.attributes.unknown);
        let passed: Vec<_> = unknown.filter(|raw| raw.kind.0 == kind).map(|raw| raw.value.to_vec()).collect();
        assert_eq!(passed, goes_on.into_iter().map(hex).collect::<Vec<_>>(), "{attribute}");
    }
}
