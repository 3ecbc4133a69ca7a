//! OPEN.

use crate::rows::{Row, check};
use crate::world::{OUR_ASN, PEER_ASN, hex, message};

/// The fields before the optional parameters, for a peer whose AS number is right.
fn fixed(internal: bool) -> String {
    format!("04 {:04x} 005a c0000202", if internal { OUR_ASN } else { PEER_ASN })
}

fn open(body: &str) -> Vec<u8> {
    message(1, &hex(body))
}

#[test]
fn an_open_that_is_cut_or_contradicts_itself_is_refused() {
    check(|internal| {
        let fixed = fixed(internal);
        let malformed = |what: &str, parameters: &str| Row::open(what, open(&format!("{fixed} {parameters}")), 0);
        vec![
            malformed("CVE-2022-40302: extended parameters of which two of three head octets are there", "ff ff 00"),
            malformed("CVE-2022-40318: an extended parameter whose head is cut", "ff ff 0002 02 00"),
            malformed("CVE-2022-40318: an extended parameter longer than the message", "ff ff 0003 02 0001"),
            malformed("CVE-2022-43681: the message ends right after the length of parameters", "ff"),
            malformed("CVE-2022-43681: the message ends right after the extended mark", "ff ff"),
            malformed("CVE-2022-36440: a capability that a search for four-octet AS overruns", "04 02 02 41 ff"),
            malformed("CVE-2022-36440: a parameter of one octet", "01 02"),
            malformed("a four-octet AS capability of three octets", "07 02 05 41 03 00fde9"),
            malformed("a four-octet AS capability of five octets", "09 02 07 41 05 0000fde900"),
            malformed("a multiprotocol capability of three octets", "07 02 05 01 03 000100"),
            malformed("a capability longer than its parameter", "04 02 02 40 04"),
            malformed("a parameter longer than the parameters", "03 02 02 02"),
            malformed("parameters longer than the message", "05 02 00"),
            malformed("octets behind the parameters", "00 02"),
        ]
    });
}

#[test]
fn a_capability_of_odd_form_that_changes_nothing_is_no_reason_to_refuse() {
    check(|internal| {
        let fixed = fixed(internal);
        let asn = format!("4104 {:08x}", if internal { OUR_ASN } else { PEER_ASN });
        let good = |what: &str, capabilities: &str| {
            let capabilities = hex(&format!("{capabilities} {asn}"));
            let mut body = hex(&fixed);
            body.extend([u8::try_from(capabilities.len() + 2).unwrap(), 2, u8::try_from(capabilities.len()).unwrap()]);
            body.extend(capabilities);
            Row::good_open(what, message(1, &body))
        };
        vec![
            good("CVE-2025-43971: a software version capability of no octet", "4b00"),
            good("a software version whose text is longer than the capability", "4b02 ff41"),
            good("CVE-2024-31949: a dynamic capability that never ends", "4300 4301 00"),
            good("CVE-2012-1820: outbound route filtering of no octet", "0300"),
            good("CVE-2012-1820: outbound route filtering that counts more than it has", "0307 00010001 ff 8003"),
            good("CVE-2023-41360: outbound route filtering of one octet", "0301 00"),
            good("graceful restart of one octet", "4001 80"),
            good("graceful restart with half a family", "4004 8078 0001"),
            good("ADD-PATH with half a family", "4502 0001"),
            good("ADD-PATH of direction 255", "4504 000101ff"),
            good("an extended next hop of five octets", "0505 0001000100"),
            good("route refresh with a value", "0201 07"),
            good("the four-octet AS twice, the same", &asn.clone()),
            good("a family that nobody knows", "0104 4004 00 47 0104 0001 00 01"),
            good("the same capability a hundred times", &"4600".repeat(100)),
        ]
    });
}

#[test]
fn an_open_whose_values_are_not_allowed_gets_the_subcode_of_the_first() {
    check(|internal| {
        let asn = format!("{:04x}", if internal { OUR_ASN } else { PEER_ASN });
        vec![
            Row::open("version 3", open(&format!("03 {asn} 005a c0000202 00")), 1),
            Row::open("version 255 and garbage", open("ff ffff ffff ffffffff ff"), 1),
            Row::open("AS 0", open("04 0000 005a c0000202 00"), 2),
            Row::open(
                "AS 0 in the four-octet capability",
                open(&format!("04 {asn} 005a c0000202 08 02 06 41 04 00000000")),
                2,
            ),
            Row::open("identifier 0", open(&format!("04 {asn} 005a 00000000 00")), 3),
            Row::open("an unknown parameter", open(&format!("04 {asn} 005a c0000202 04 07 02 0000")), 4),
            Row::open("hold time 1", open(&format!("04 {asn} 0001 c0000202 00")), 6),
            Row::open("hold time 2", open(&format!("04 {asn} 0002 c0000202 00")), 6),
        ]
    });
}
