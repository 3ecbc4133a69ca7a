use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::{Asn, Cidr, Family};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::{
    Aggregator, AsPath, AttributeType, Attributes, Capability, Community, DecodeContext, ExtendedCommunity, FamilySet,
    LargeCommunity, Message, Open, Origin, PeerKind, RawAttribute, SegmentKind, decode, encode_announcements,
    encode_open, encode_withdrawals, frame, packed,
};
use super::{context, decode_update};

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1u32..=65535, 1u32..=u32::MAX].prop_map(Asn)
}

fn as_path() -> impl Strategy<Value = AsPath> {
    let kind = prop_oneof![4 => Just(SegmentKind::Sequence), 1 => Just(SegmentKind::Set)];
    vec((kind, vec(asn(), 1..8)), 0..4).prop_map(|segments| {
        let mut path = AsPath::default();
        segments.iter().for_each(|(kind, asns)| path.push_joined(*kind, asns));
        path
    })
}

fn unknown() -> impl Strategy<Value = Vec<RawAttribute>> {
    // Neither known types nor one of them twice.
    prop::collection::btree_map(100u8..250, vec(any::<u8>(), 0..300), 0..3).prop_map(|unknown| {
        let raw = |(kind, value): (u8, Vec<u8>)| RawAttribute {
            kind: AttributeType(kind),
            flags: 0xe0,
            value: value.into_boxed_slice(),
        };
        unknown.into_iter().map(raw).collect()
    })
}

fn attributes(family: Family) -> impl Strategy<Value = Attributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let aggregator = (asn(), any::<u32>()).prop_map(|(asn, id)| Aggregator { asn, router_id: Ipv4Addr::from_bits(id) });
    let communities =
        (btree_set(any::<u32>(), 0..80), btree_set(any::<u64>(), 0..4), btree_set(any::<(u32, u32, u32)>(), 0..4));
    let reflection = (option::of(any::<u32>()), vec(any::<u32>(), 0..4));
    let basics = (origin, as_path(), option::of(any::<u32>()), any::<u32>(), any::<bool>(), option::of(aggregator));
    (basics, communities, reflection, unknown(), any::<u32>(), option::of(any::<u64>())).prop_map(
        move |(basics, communities, reflection, unknown, host, link_local)| {
            let (origin, as_path, med, local_pref, atomic_aggregate, aggregator) = basics;
            let (next_hop, link_local_next_hop): (IpAddr, _) = match family {
                Family::V4 => (Ipv4Addr::from_bits(0x0a00_0000 | host >> 8).into(), None),
                Family::V6 => {
                    let with = |prefix: u128, low: u64| Ipv6Addr::from_bits(prefix << 112 | u128::from(low));
                    (with(0x2001, u64::from(host)).into(), link_local.map(|low| with(0xfe80, low)))
                }
            };
            let large = |(global_administrator, local_data_1, local_data_2)| LargeCommunity {
                global_administrator,
                local_data_1,
                local_data_2,
            };
            Attributes {
                origin,
                as_path,
                next_hop: Some(next_hop),
                link_local_next_hop,
                med,
                local_pref: Some(local_pref),
                atomic_aggregate,
                aggregator,
                communities: communities.0.into_iter().map(Community).collect(),
                extended_communities: communities.1.into_iter().map(ExtendedCommunity).collect(),
                large_communities: communities.2.into_iter().map(large).collect(),
                originator_id: reflection.0.map(Ipv4Addr::from_bits),
                cluster_list: reflection.1.into_iter().map(Ipv4Addr::from_bits).collect(),
                unknown,
            }
        },
    )
}

fn prefixes(family: Family, most: usize) -> impl Strategy<Value = Vec<Cidr>> {
    vec((any::<u128>(), 0..=family.bits()), 1..most).prop_map(move |prefixes| {
        let prefix = |(bits, len): (u128, u8)| {
            let addr: IpAddr = match family {
                Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
                Family::V6 => Ipv6Addr::from_bits(bits).into(),
            };
            Cidr::truncated(addr, len).unwrap()
        };
        prefixes.into_iter().map(prefix).collect()
    })
}

fn routes() -> impl Strategy<Value = (Family, Attributes, Vec<Cidr>)> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
        .prop_flat_map(|family| (Just(family), attributes(family), prefixes(family, 2000)))
}

fn any_context() -> impl Strategy<Value = DecodeContext> {
    any::<[bool; 6]>().prop_map(|[a, b, c, d, e, f]| DecodeContext {
        four_octet_asn: a,
        peer_kind: if b { PeerKind::Internal } else { PeerKind::External },
        families: [(c, Family::V4), (d, Family::V6)]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, family)| family)
            .collect(),
        extended_next_hop: e,
        add_path: if f { Family::ALL.into_iter().collect() } else { FamilySet::EMPTY },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attributes_come_out_of_the_table_as_they_went_in((_, attributes, _) in routes()) {
        let mut octets = Vec::new();
        packed::pack(&attributes, &mut octets);
        prop_assert_eq!(packed::unpack(&octets), attributes);
    }

    #[test]
    fn announcements_are_read_as_they_were_written((family, attributes, prefixes) in routes(), four_octet_asn: bool) {
        let messages = encode_announcements(family, &attributes, prefixes.clone(), four_octet_asn).unwrap();
        let context = DecodeContext { four_octet_asn, ..context(PeerKind::Internal) };
        let mut read = Vec::new();
        for message in messages {
            prop_assert_eq!(frame(&message, 4096), Ok(Some(message.len())));
            let update = decode_update(&message, &context).unwrap();
            prop_assert_eq!(&update.problems, &[]);
            prop_assert!(update.withdrawn.is_empty());
            prop_assert_eq!(update.announced.len(), 1);
            for announcement in update.announced {
                prop_assert_eq!(&announcement.attributes, &attributes);
                read.extend(announcement.prefixes);
            }
        }
        prop_assert_eq!(read, prefixes);
    }

    #[test]
    fn withdrawals_are_read_as_they_were_written((family, _, prefixes) in routes()) {
        let mut read = Vec::new();
        for message in encode_withdrawals(family, prefixes.clone()).unwrap() {
            let update = decode_update(&message, &context(PeerKind::External)).unwrap();
            prop_assert!(update.announced.is_empty());
            read.extend(update.withdrawn.into_iter().flat_map(|withdrawal| withdrawal.prefixes));
        }
        prop_assert_eq!(read, prefixes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_body_makes_decoding_panic(kind in 0u8..7, body in vec(any::<u8>(), 0..200), context in any_context()) {
        let _ = decode(&super::message(kind, &body), &context);
    }

    #[test]
    fn no_octets_make_framing_or_decoding_panic(octets in vec(any::<u8>(), 0..64), context in any_context()) {
        let _ = frame(&octets, 4096);
        let _ = decode(&octets, &context);
    }

    #[test]
    fn no_change_of_an_update_makes_decoding_panic(
        (family, attributes) in prop_oneof![
            attributes(Family::V4).prop_map(|attributes| (Family::V4, attributes)),
            attributes(Family::V6).prop_map(|attributes| (Family::V6, attributes)),
        ],
        count in 1usize..4,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        context in any_context(),
    ) {
        let prefixes = std::iter::repeat_n(Cidr::any(family), count);
        let mut message = encode_announcements(family, &attributes, prefixes, context.four_octet_asn).unwrap()[0].to_vec();
        for (place, octet) in changes {
            let place = 19 + place.index(message.len() - 19);
            message[place] = octet;
        }
        // What is taken is well-formed enough to be sent on.
        if let Ok(Message::Update(update)) = decode(&message, &context) {
            for routes in update.announced {
                prop_assert!(routes.prefixes.iter().all(|prefix| prefix.family() == routes.family));
                let again = encode_announcements(routes.family, &routes.attributes, routes.prefixes.clone(), true);
                prop_assert!(again.is_ok());
            }
        }
    }

    #[test]
    fn no_change_of_an_open_makes_decoding_panic(
        extra in 0usize..12,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut capabilities = vec![Capability::FourOctetAsn(Asn(70000)), Capability::RouteRefresh];
        capabilities.extend((0..extra).map(|_| Capability::Unknown { code: 99, value: vec![2; 30] }));
        let mut message = encode_open(&Open::new(Asn(70000), 90, Ipv4Addr::LOCALHOST, capabilities)).to_vec();
        for (place, octet) in changes {
            let place = 19 + place.index(message.len() - 19);
            message[place] = octet;
        }
        if let Err(notification) = decode(&message, &DecodeContext::default()) {
            prop_assert_eq!(notification.code, 2);
        }
    }
}
