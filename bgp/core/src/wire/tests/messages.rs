//! What is written is read: OPEN, NOTIFICATION, ROUTE-REFRESH and KEEPALIVE with any content, and streams cut anywhere.
//! See `properties` for UPDATE.

use std::net::Ipv4Addr;

use margay_net::Asn;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{
    AddPath, AfiSafi, Capability, DecodeContext, ExtendedNextHop, GracefulRestart, GracefulRestartFamily,
    MAX_COMMUNICATION, Message, Notification, Open, RefreshSubtype, RouteRefresh, decode, encode_keepalive,
    encode_notification, encode_open, encode_route_refresh, frame,
};
use super::super::{Cease, MAX_MESSAGE};

fn family() -> impl Strategy<Value = AfiSafi> {
    prop_oneof![
        Just(AfiSafi::IPV4_UNICAST),
        Just(AfiSafi::IPV6_UNICAST),
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| AfiSafi { afi, safi }),
    ]
}

fn capability() -> impl Strategy<Value = Capability> {
    let extended_next_hop = (family(), any::<u16>());
    let extended_next_hop =
        extended_next_hop.prop_map(|(family, next_hop_afi)| ExtendedNextHop { family, next_hop_afi });
    let kept = (family(), any::<bool>());
    let kept = kept.prop_map(|(family, forwarding_preserved)| GracefulRestartFamily { family, forwarding_preserved });
    let restart = (any::<bool>(), any::<bool>(), 0u16..=4095, vec(kept, 0..4));
    let restart = restart.prop_map(|(restarting, notification, restart_time, families)| GracefulRestart {
        restarting,
        notification,
        restart_time,
        families,
    });
    let add_path = (family(), any::<bool>(), any::<bool>());
    let add_path = add_path.prop_map(|(family, receive, send)| AddPath { family, receive, send });
    prop_oneof![
        family().prop_map(Capability::Multiprotocol),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRouteRefresh),
        Just(Capability::ExtendedMessage),
        vec(extended_next_hop, 0..4).prop_map(Capability::ExtendedNextHop),
        restart.prop_map(Capability::GracefulRestart),
        vec(add_path, 0..4).prop_map(Capability::AddPath),
        // None of these codes is one of those above.
        (71u8..=255, vec(any::<u8>(), 0..=255)).prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

fn open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0u16), 3u16..];
    (1u32.., hold_time, 1u32.., vec(capability(), 0..12)).prop_map(|(asn, hold_time, id, mut capabilities)| {
        capabilities.push(Capability::FourOctetAsn(Asn(asn)));
        Open::new(Asn(asn), hold_time, Ipv4Addr::from_bits(id), capabilities)
    })
}

fn refresh() -> impl Strategy<Value = RouteRefresh> {
    let subtype = prop_oneof![
        Just(RefreshSubtype::Request),
        Just(RefreshSubtype::Beginning),
        Just(RefreshSubtype::End),
        (3u8..).prop_map(RefreshSubtype::Unknown),
    ];
    (family(), subtype).prop_map(|(family, subtype)| RouteRefresh { family, subtype })
}

fn notification() -> impl Strategy<Value = Notification> {
    (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..400))
        .prop_map(|(code, subcode, data)| Notification::new(code, subcode).with_data(data))
}

fn read(message: &[u8]) -> Result<Message, Notification> {
    assert_eq!(frame(message, MAX_MESSAGE), Ok(Some(message.len())));
    decode(message, &DecodeContext::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn an_open_is_read_as_it_was_written(open in open()) {
        prop_assert_eq!(read(&encode_open(&open)), Ok(Message::Open(open)));
    }

    #[test]
    fn a_notification_is_read_as_it_was_written_and_can_be_said_in_words(notification in notification()) {
        prop_assert_eq!(read(&encode_notification(&notification)), Ok(Message::Notification(notification.clone())));
        let words = notification.to_string();
        prop_assert!(words.contains(&format!("({}/{})", notification.code, notification.subcode)), "{}", words);
        prop_assert!(!words.contains(char::is_control), "{:?}", words);
    }

    #[test]
    fn a_shutdown_communication_is_read_as_it_was_written(text in "\\PC{0,300}", reset in any::<bool>()) {
        let reason = if reset { Cease::AdministrativeReset } else { Cease::AdministrativeShutdown };
        let written = Notification::cease_with_communication(reason, &text);
        let Ok(Message::Notification(read)) = read(&encode_notification(&written)) else { panic!("a NOTIFICATION") };
        let expected = &text[..text.floor_char_boundary(MAX_COMMUNICATION)];
        prop_assert_eq!(read.communication(), (!expected.is_empty()).then(|| expected.to_owned()));
    }

    #[test]
    fn a_route_refresh_is_read_as_it_was_written(refresh in refresh()) {
        prop_assert_eq!(read(&encode_route_refresh(refresh)), Ok(Message::RouteRefresh(refresh)));
    }

    #[test]
    fn a_stream_gives_the_same_messages_however_it_is_cut(
        opens in vec(open(), 1..4),
        notifications in vec(notification(), 1..4),
        cuts in vec(1usize..200, 1..40),
    ) {
        let mut messages: Vec<Vec<u8>> = opens.iter().map(|open| encode_open(open).to_vec()).collect();
        messages.push(encode_keepalive().to_vec());
        messages.extend(notifications.iter().map(|notification| encode_notification(notification).to_vec()));
        let stream = messages.concat();
        let (mut buffer, mut framed, mut at) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            let end = (at + cut).min(stream.len());
            buffer.extend_from_slice(&stream[at..end]);
            at = end;
            while let Some(len) = frame(&buffer, MAX_MESSAGE).unwrap().filter(|&len| len <= buffer.len()) {
                framed.push(buffer.drain(..len).collect::<Vec<_>>());
            }
            if at == stream.len() {
                break;
            }
        }
        prop_assert_eq!(framed, messages);
        prop_assert!(buffer.is_empty());
    }
}
