use super::super::{DecodeContext, MAX_MESSAGE, Message, decode, encode_keepalive, frame};
use super::{hex, message};

const MARKER: &str = "ffffffffffffffff ffffffffffffffff";

#[test]
fn a_bad_header_gets_the_error_of_its_first_bad_field() {
    for (header, error) in [
        // Marker, RFC 4271 section 6.1: no data.
        ("00", (1, 1, "")),
        ("ffffffffffffffff ffffffffffffff00 0013 04", (1, 1, "")),
        ("ffffffffffffffff ffffffffffffff00 0000 09", (1, 1, "")),
        // Length: the field as data. Too short or too long for any message, then for each type.
        (&format!("{MARKER} 0012 04"), (1, 2, "0012")),
        (&format!("{MARKER} 0000 04"), (1, 2, "0000")),
        (&format!("{MARKER} 1001 02"), (1, 2, "1001")),
        (&format!("{MARKER} ffff 09"), (1, 2, "ffff")),
        (&format!("{MARKER} 001c 01"), (1, 2, "001c")),
        (&format!("{MARKER} 0016 02"), (1, 2, "0016")),
        (&format!("{MARKER} 0014 03"), (1, 2, "0014")),
        (&format!("{MARKER} 0014 04"), (1, 2, "0014")),
        (&format!("{MARKER} 0016 05"), (1, 2, "0016")),
        // Type: the octet as data.
        (&format!("{MARKER} 0013 00"), (1, 3, "00")),
        (&format!("{MARKER} 0013 06"), (1, 3, "06")),
        (&format!("{MARKER} 0013 ff"), (1, 3, "ff")),
    ] {
        let notification = frame(&hex(header), MAX_MESSAGE).unwrap_err();
        let (code, subcode, data) = error;
        assert_eq!(
            (notification.code, notification.subcode, notification.data),
            (code, subcode, hex(data)),
            "{header}"
        );
    }
}

#[test]
fn a_message_is_framed_as_soon_as_its_header_is_there() {
    let update = message(2, &[0; 10]);
    for len in 0..19 {
        assert_eq!(frame(&update[..len], MAX_MESSAGE), Ok(None));
    }
    for len in 19..update.len() {
        assert_eq!(frame(&update[..len], MAX_MESSAGE), Ok(Some(29)));
    }
}

#[test]
fn only_some_types_may_be_extended_messages() {
    let header = |kind: u8| hex(&format!("{MARKER} 1001 {kind:02x}"));
    assert_eq!(frame(&header(2), 65535), Ok(Some(4097)));
    assert_eq!(frame(&header(3), 65535), Ok(Some(4097)));
    assert_eq!(frame(&header(5), 65535), Ok(Some(4097)));
    assert!(frame(&header(1), 65535).is_err());
    assert!(frame(&header(4), 65535).is_err());
}

#[test]
fn a_message_cut_wrongly_is_refused() {
    let keepalive = encode_keepalive();
    assert_eq!(decode(&keepalive, &DecodeContext::default()), Ok(Message::Keepalive));
    let mut long = keepalive.to_vec();
    long.push(0);
    for cut in [&keepalive[..18], &keepalive[..3], &[], &long[..]] {
        let notification = decode(cut, &DecodeContext::default()).unwrap_err();
        assert_eq!((notification.code, notification.subcode), (1, 2));
    }
}
