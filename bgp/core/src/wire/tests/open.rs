use margay_net::{Asn, Family};

use super::super::{
    AddPath, AfiSafi, Capability, DecodeContext, ExtendedNextHop, GracefulRestart, GracefulRestartFamily, Message,
    Notification, Open, decode, encode_open,
};
use super::{hex, message};

fn decode_open(body: &[u8]) -> Result<Open, Notification> {
    match decode(&message(1, body), &DecodeContext::default())? {
        Message::Open(open) => Ok(open),
        other => panic!("not an OPEN: {other:?}"),
    }
}

#[test]
fn a_bad_open_is_answered_with_what_is_wrong() {
    for (what, body, error) in [
        ("version 3", "03 fde9 005a 0a000001 00", (2, 1, "0004")),
        ("version 5 and garbage", "05 0000 0001 00000000 ff", (2, 1, "0004")),
        ("hold time 1", "04 fde9 0001 0a000001 00", (2, 6, "")),
        ("hold time 2", "04 fde9 0002 0a000001 00", (2, 6, "")),
        ("identifier 0", "04 fde9 005a 00000000 00", (2, 3, "")),
        ("AS 0", "04 0000 005a 0a000001 00", (2, 2, "")),
        ("four-octet AS 0", "04 fde9 005a 0a000001 08 02 06 41 04 00000000", (2, 2, "")),
        ("AS 0 beside a four-octet one", "04 0000 005a 0a000001 08 02 06 41 04 00011170", (2, 2, "")),
        ("an unknown parameter", "04 fde9 005a 0a000001 04 07 02 0000", (2, 4, "")),
        ("authentication", "04 fde9 005a 0a000001 02 01 00", (2, 4, "")),
        ("parameters beyond the message", "04 fde9 005a 0a000001 05 02 00", (2, 0, "")),
        ("octets after the parameters", "04 fde9 005a 0a000001 00 02", (2, 0, "")),
        ("a parameter beyond the parameters", "04 fde9 005a 0a000001 03 02 02 02", (2, 0, "")),
        ("a parameter without length", "04 fde9 005a 0a000001 01 02", (2, 0, "")),
        ("a capability beyond its parameter", "04 fde9 005a 0a000001 04 02 02 41 04", (2, 0, "")),
        ("a capability without length", "04 fde9 005a 0a000001 03 02 01 41", (2, 0, "")),
        ("a short multiprotocol capability", "04 fde9 005a 0a000001 07 02 05 01 03 000100", (2, 0, "")),
        ("a long four-octet capability", "04 fde9 005a 0a000001 09 02 07 41 05 0001117000", (2, 0, "")),
        // CVE-2022-40302: the extended header is cut to two of three octets.
        ("a cut extended length", "04 fde9 005a 0a000001 ff ff 00", (2, 0, "")),
        // CVE-2022-40318: the same where a parameter's extended head is cut.
        ("a cut extended parameter", "04 fde9 005a 0a000001 ff ff 0002 02 00", (2, 0, "")),
        ("an extended parameter too long", "04 fde9 005a 0a000001 ff ff 0003 02 0001", (2, 0, "")),
        // CVE-2022-43681: the message ends after the length.
        ("nothing after the length", "04 fde9 005a 0a000001 ff", (2, 0, "")),
        ("nothing after the extended mark", "04 fde9 005a 0a000001 ff ff", (2, 0, "")),
        ("extended parameters beyond the message", "04 fde9 005a 0a000001 ff ff ffff 02 0000", (2, 0, "")),
        // CVE-2022-36440: a capability that peeking for AS4 would overrun.
        ("a peeked capability", "04 5ba0 005a 0a000001 04 02 02 41 ff", (2, 0, "")),
    ] {
        let notification = decode_open(&hex(body)).unwrap_err();
        let (code, subcode, data) = error;
        assert_eq!((notification.code, notification.subcode, notification.data), (code, subcode, hex(data)), "{what}");
    }
}

#[test]
fn every_cut_of_an_open_is_an_error_or_an_open() {
    let whole = hex("04 5ba0 005a 0a000001 1a 02 18 01 04 00010001 40 06 8078 00010180 41 04 00011170 46 00 02 00");
    assert!(decode_open(&whole).is_ok());
    for len in 10..whole.len() {
        assert_eq!(decode_open(&whole[..len]).unwrap_err().code, 2);
    }
}

#[test]
fn capabilities_are_read_from_any_number_of_parameters() {
    let open = decode_open(&hex("04 5ba0 005a 0a000001 12 02 06 01 04 00020001 02 08 02 00 41 04 00011170")).unwrap();
    assert_eq!((open.asn, open.asn_on_wire), (Asn(70000), 23456));
    assert_eq!(
        open.capabilities,
        [
            Capability::Multiprotocol(AfiSafi::IPV6_UNICAST),
            Capability::RouteRefresh,
            Capability::FourOctetAsn(Asn(70000))
        ]
    );
}

#[test]
fn a_capability_of_a_wrong_form_is_kept_but_not_used() {
    let open = decode_open(&hex("04 fde9 005a 0a000001 0a 02 08 02 01 07 40 01 80 49 00")).unwrap();
    let unknown = |code, value: &[u8]| Capability::Unknown { code, value: value.to_vec() };
    assert_eq!(open.capabilities, [unknown(2, &[7]), unknown(64, &[0x80]), unknown(73, &[])]);
}

#[test]
fn extended_parameters_are_read_whatever_the_first_length() {
    for first in ["01", "08", "ff"] {
        let open = decode_open(&hex(&format!("04 fde9 005a 0a000001 {first} ff 0005 02 0002 0200"))).unwrap();
        assert_eq!(open.capabilities, [Capability::RouteRefresh]);
    }
    assert_eq!(decode_open(&hex("04 fde9 005a 0a000001 ff ff 0000")).unwrap().capabilities, []);
}

#[test]
fn an_open_is_read_as_it_was_written() {
    let capabilities = vec![
        Capability::Multiprotocol(AfiSafi::IPV4_UNICAST),
        Capability::RouteRefresh,
        Capability::ExtendedNextHop(vec![ExtendedNextHop { family: AfiSafi::IPV4_UNICAST, next_hop_afi: 2 }]),
        Capability::ExtendedMessage,
        Capability::GracefulRestart(GracefulRestart {
            restarting: true,
            notification: true,
            restart_time: 4095,
            families: Family::ALL
                .map(|family| GracefulRestartFamily {
                    family: family.into(),
                    forwarding_preserved: family == Family::V6,
                })
                .to_vec(),
        }),
        Capability::FourOctetAsn(Asn(4_200_000_000)),
        Capability::AddPath(vec![AddPath { family: AfiSafi::IPV6_UNICAST, receive: true, send: false }]),
        Capability::EnhancedRouteRefresh,
        Capability::Unknown { code: 73, value: b"host".to_vec() },
    ];
    let mut open = Open::new(Asn(4_200_000_000), 90, "192.0.2.1".parse().unwrap(), capabilities);
    let context = DecodeContext::default();
    assert_eq!(decode(&encode_open(&open), &context), Ok(Message::Open(open.clone())));

    // As many as need extended parameters.
    open.capabilities.extend((0..20).map(|code| Capability::Unknown { code: 128 + code, value: vec![code; 30] }));
    let encoded = encode_open(&open);
    assert_eq!(encoded[28..30], [255, 255]);
    assert_eq!(decode(&encoded, &context), Ok(Message::Open(open.clone())));

    open.capabilities.clear();
    open.asn = Asn(65001);
    open.asn_on_wire = 65001;
    assert_eq!(decode(&encode_open(&open), &context), Ok(Message::Open(open.clone())));

    // What can't be said is left out, and the message stays a message.
    open.capabilities = vec![Capability::Unknown { code: 200, value: vec![0; 256] }];
    assert_eq!(encode_open(&open).len(), 29);
    open.capabilities = vec![Capability::Unknown { code: 200, value: vec![0; 255] }; 20];
    let Ok(Message::Open(read)) = decode(&encode_open(&open), &context) else { panic!("not an OPEN") };
    assert_eq!(read.capabilities.len(), 15);
}
