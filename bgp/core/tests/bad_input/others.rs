//! Headers, NOTIFICATION, KEEPALIVE and ROUTE-REFRESH.

use crate::rows::{Answer, Row, check};
use crate::world::{hex, message};

fn with_header(marker: u8, len: u16, kind: u8, body: usize) -> Vec<u8> {
    let mut message = vec![0xff; 15];
    message.push(marker);
    message.extend(len.to_be_bytes());
    message.push(kind);
    message.extend(std::iter::repeat_n(0, body));
    message
}

#[test]
fn a_wrong_header_gets_its_subcode_in_every_state() {
    check(|_| {
        vec![
            Row::header("a marker with a bit off", with_header(0xfe, 19, 4, 0), 1),
            Row::header("a marker of zeros", vec![0; 19], 1),
            Row::header("text of another protocol", b"GET / HTTP/1.1\r\nHost: bgp\r\n\r\n".to_vec(), 1),
            Row::header("length 0", with_header(0xff, 0, 2, 0), 2),
            Row::header("length 18", with_header(0xff, 18, 4, 0), 2),
            Row::header("length 4097 where extended messages are not agreed on", with_header(0xff, 4097, 2, 0), 2),
            Row::header("CVE-2023-46565: length 65535", with_header(0xff, 65535, 2, 0), 2),
            Row::header("an OPEN of 28 octets", with_header(0xff, 28, 1, 9), 2),
            Row::header("an UPDATE of 22 octets", with_header(0xff, 22, 2, 3), 2),
            Row::header("a NOTIFICATION of 20 octets", with_header(0xff, 20, 3, 1), 2),
            Row::header("a KEEPALIVE of 20 octets", with_header(0xff, 20, 4, 1), 2),
            Row::header("a ROUTE-REFRESH of 22 octets", with_header(0xff, 22, 5, 3), 2),
            Row::header("type 0", with_header(0xff, 19, 0, 0), 3),
            Row::header("type 6, which was once for dynamic capabilities", with_header(0xff, 30, 6, 11), 3),
            Row::header("type 255", with_header(0xff, 19, 255, 0), 3),
        ]
    });
}

#[test]
fn a_notification_of_any_content_ends_the_session_and_is_not_answered() {
    check(|_| {
        let notification = |what: &str, body: Vec<u8>| Row::notification(what, message(3, &body));
        let long = |len: u8, text: &[u8]| [&[6, 2, len][..], text].concat();
        vec![
            notification("code 0", vec![0, 0]),
            notification("code 255, subcode 255", vec![255, 255]),
            notification("CVE-2019-16159: a shutdown communication of 255 octets", long(255, &[b'a'; 255])),
            notification(
                "CVE-2019-16159: a shutdown communication that counts more than there is",
                long(200, b"short"),
            ),
            notification(
                "CVE-2019-16159: a shutdown communication that is no UTF-8",
                long(4, &[0xff, 0xfe, 0xc0, 0x80]),
            ),
            notification("a shutdown communication with control characters", long(8, b"a\r\n\x1b[31m")),
            notification("4,075 octets of data", [&[3, 1][..], &[0x55; 4073]].concat()),
            notification("a Hard Reset of nothing", vec![6, 9]),
            notification("a Hard Reset of one octet", vec![6, 9, 6]),
            notification("a Hard Reset of a Hard Reset of a Hard Reset", vec![6, 9, 6, 9, 6, 9, 6, 2, 0]),
        ]
    });
}

#[test]
fn a_route_refresh_of_any_content_is_answered_or_ignored() {
    check(|_| {
        let refresh = |what: &str, body: &str, answer| Row::established(what, message(5, &hex(body)), answer);
        vec![
            refresh("a family that is not agreed on", "0001 00 80", Answer::RoutesStay),
            refresh("a family that nobody knows", "ffff 00 ff", Answer::RoutesStay),
            refresh("a subtype that nobody knows", "0001 ff 01", Answer::RoutesStay),
            refresh("CVE-2023-41360: a filter whose head ends with the message", "0001 00 01 01", Answer::RoutesStay),
            refresh("a filter of a wrong length", "0001 00 01 01 40 ffff", Answer::RoutesStay),
            refresh("a filter of a type that was not agreed on", "0001 00 01 02 80 0001 00", Answer::RoutesStay),
            refresh("the end of a refresh that nobody began", "0001 02 01", Answer::RoutesStay),
            refresh("the beginning of a refresh with octets behind", "0001 01 01 00", Answer::Notification(7, 1)),
            refresh("the end of a refresh with octets behind", "0001 02 01 00", Answer::Notification(7, 1)),
        ]
    });
}
