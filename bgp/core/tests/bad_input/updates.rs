//! UPDATE: a session is reset only where RFC 7606 leaves no choice.

use crate::rows::{Answer, Row, check};
use crate::world::{NEXT_HOP_V6, World, hex, message, update};

use Answer::{Notification, RoutesStay};

const GONE_V4: Answer = Answer::Withdrawn { v4: true, v6: false };
const GONE_BOTH: Answer = Answer::Withdrawn { v4: true, v6: true };

/// The peer's IPv4 route.
const V4: &str = "18 0a0102";

/// Makes UPDATEs of the IPv4 route with an attribute beside the mandatory ones, or in their place.
struct Maker {
    mandatory: Vec<u8>,
}

impl Maker {
    fn new(internal: bool) -> Maker {
        Maker { mandatory: World::new(internal, true).mandatory() }
    }

    /// The mandatory attributes, without the one of type `kind`, then others.
    fn attributes(&self, without: u8, others: &str) -> Vec<u8> {
        let (mut kept, mut rest) = (Vec::new(), &self.mandatory[..]);
        while let [_, kind, len, ..] = *rest {
            let (attribute, after) = rest.split_at(3 + usize::from(len));
            if kind != without {
                kept.extend(attribute);
            }
            rest = after;
        }
        kept.extend(hex(others));
        kept
    }

    fn beside(&self, what: &str, attribute: &str, answer: Answer) -> Row {
        Row::established(what, update(&[], &self.attributes(0, attribute), &hex(V4)), answer)
    }

    fn instead(&self, what: &str, attribute: &str, answer: Answer) -> Row {
        let kind = hex(attribute)[1];
        Row::established(what, update(&[], &self.attributes(kind, attribute), &hex(V4)), answer)
    }
}

fn bare(what: &str, withdrawn: &str, attributes: &str, nlri: &str, answer: Answer) -> Row {
    Row::established(what, update(&hex(withdrawn), &hex(attributes), &hex(nlri)), answer)
}

#[test]
fn a_malformed_attribute_withdraws_or_is_left_out() {
    check(|internal| {
        let with = Maker::new(internal);
        vec![
            with.beside("CVE-2023-38802: a corrupted tunnel encapsulation", "c01706 0008 0010 0601", GONE_V4),
            with.beside("CVE-2024-44070: a tunnel longer than the attribute", "c01704 0008 00ff", GONE_V4),
            with.beside("a tunnel encapsulation of nothing", "c01700", GONE_V4),
            with.beside("CVE-2023-4481: a crafted optional attribute", "e0ff04 00ffffff", RoutesStay),
            with.beside("CVE-2023-40457: AS_PATHLIMIT of a wrong length", "c01501 00", RoutesStay),
            with.beside("CVE-2023-38283: an attribute longer than all of them", "c008ff fde90064", GONE_V4),
            with.beside("CVE-2023-38283: an extended length beyond the message", "d008ffff fde90064", GONE_V4),
            with.beside("CVE-2023-38283: flags and type without a length", "c008", GONE_V4),
            with.beside("CVE-2024-31948: a Prefix-SID whose TLV is longer than it", "c02804 01 0007 00", RoutesStay),
            with.beside("the incident of May 2025: a Prefix-SID of zeros", "c02809 000000000000000000", RoutesStay),
            with.beside("the incident of October 2025: OTC of three octets", "c02303 00fde9", GONE_V4),
            with.instead("CVE-2026-30405: NEXT_HOP of three octets", "400303 c00002", GONE_V4),
            with.instead("CVE-2026-30405: NEXT_HOP of nothing", "400300", GONE_V4),
            with.beside(
                "CVE-2026-37461: an IPv6 extended community of 19 octets",
                &format!("c01913 0002 {NEXT_HOP_V6} 00"),
                GONE_V4,
            ),
            with.beside(
                "CVE-2026-41643: AS4_PATH, malformed, though AS_PATH has four octets",
                "c01103 020100",
                RoutesStay,
            ),
            with.beside("CVE-2010-1674: an extended community of seven octets", "c01007 00020000000000", GONE_V4),
            with.beside(
                "CVE-2011-3327: extended communities of 255 octets",
                &format!("c010ff {}", "00".repeat(255)),
                GONE_V4,
            ),
            with.beside("CVE-2018-5379: an unknown attribute twice", "c0e504 00000001 c0e504 00000002", RoutesStay),
            with.beside("communities of five octets", "c00805 fde9006400", GONE_V4),
            with.beside("large communities of eight octets", "c02008 0000fde9 00000001", GONE_V4),
            with.beside("MED of three octets", "800403 000001", GONE_V4),
            with.beside("an AGGREGATOR of AS 0", "c00708 00000000 c0000201", RoutesStay),
            with.beside("ATOMIC_AGGREGATE with a value", "400601 00", RoutesStay),
            with.beside("ORIGIN twice", "400101 02", RoutesStay),
            with.instead("ORIGIN 3", "400101 03", GONE_V4),
        ]
    });
}

#[test]
fn what_is_in_an_as_path_is_judged() {
    check(|internal| {
        let with = Maker::new(internal);
        let path = |what: &str, value: &str, answer| {
            with.instead(what, &format!("4002{:02x} {value}", hex(value).len()), answer)
        };
        vec![
            path("AS 0", "0202 0000fde9 00000000", GONE_V4),
            path("AS_TRANS behind the peer's own AS", "0202 0000fde9 00005ba0", RoutesStay),
            path("AS_TRANS alone", "0201 00005ba0", if internal { RoutesStay } else { GONE_V4 }),
            path("an AS_SET (RFC 9774)", "0201 0000fde9 0102 0000fdea 0000fdeb", GONE_V4),
            path("a confederation sequence", "0301 0000fde9", if internal { RoutesStay } else { GONE_V4 }),
            path("a confederation set (RFC 9774)", "0201 0000fde9 0401 0000fdea", GONE_V4),
            path("a segment of type 0", "0001 0000fde9", GONE_V4),
            path("a segment of type 255", "ff01 0000fde9", GONE_V4),
            path("a segment of no AS", "0201 0000fde9 0200", GONE_V4),
            path("a segment that counts more than there is", "02ff 0000fde9", GONE_V4),
            path("half an AS number", "0201 0000", GONE_V4),
            path("our own AS", "0202 0000fde9 0000fc00", GONE_V4),
            path("62 AS numbers", &format!("023e {}", "0000fde9".repeat(62)), RoutesStay),
        ]
    });
}

#[test]
fn what_is_in_a_next_hop_is_judged() {
    check(|internal| {
        let with = Maker::new(internal);
        let v6 = |what: &str, next_hop: &str, answer| {
            let octets = hex(next_hop).len();
            let reach = format!("800e{:02x} 000201 {octets:02x} {next_hop} 00 20 fd000001", 10 + octets);
            Row::established(what, update(&[], &with.attributes(3, &reach), &[]), answer)
        };
        let gone_v6 = Answer::Withdrawn { v4: false, v6: true };
        vec![
            with.instead("0.0.0.0", "400304 00000000", GONE_V4),
            with.instead("loopback", "400304 7f000001", GONE_V4),
            with.instead("multicast", "400304 e0000001", GONE_V4),
            with.instead("broadcast", "400304 ffffffff", GONE_V4),
            with.instead("our own address", "400304 c0000201", GONE_V4),
            v6("IPv6 unspecified", "00000000000000000000000000000000", gone_v6),
            v6("IPv6 loopback", "00000000000000000000000000000001", gone_v6),
            v6("IPv6 multicast", "ff020000000000000000000000000001", gone_v6),
            v6("our own IPv6 address", "20010db8000000000000000000000001", gone_v6),
            v6("IPv6 of five octets", "20010db800", Notification(3, 9)),
            v6("IPv6 of no octet", "", Notification(3, 9)),
        ]
    });
}

#[test]
fn a_message_without_what_it_needs_withdraws_or_is_ignored() {
    check(|internal| {
        let with = Maker::new(internal);
        let without = |what: &str, kind, answer| {
            Row::established(what, update(&[], &with.attributes(kind, ""), &hex(V4)), answer)
        };
        let mut with_both = with.mandatory.clone();
        with_both.extend(hex(&format!("800e1a 000201 10 {NEXT_HOP_V6} 00 20 fd000001 c00803 000000")));
        vec![
            bare("CVE-2023-41358: prefixes with an attribute length of zero", "", "", V4, GONE_V4),
            bare("CVE-2023-46753: nothing but an unknown transitive attribute", "", "e06301 00", "", RoutesStay),
            bare("an unknown transitive attribute and prefixes", "", "e06301 00", V4, GONE_V4),
            bare("CVE-2023-47234: MP_UNREACH_NLRI, and prefixes without attributes", "", "800f03 000201", V4, GONE_V4),
            without("no ORIGIN", 1, GONE_V4),
            without("no AS_PATH", 2, GONE_V4),
            without("no NEXT_HOP", 3, GONE_V4),
            Row::established(
                "bad communities beside routes of both families",
                update(&[], &with_both, &hex(V4)),
                GONE_BOTH,
            ),
            bare("mandatory attributes and no route", "", "400101 00 400200 400304 c0000202", "", RoutesStay),
            bare("a withdrawal of a route that was never there", "18 0a0909", "", "", RoutesStay),
        ]
    });
}

/// RFC 7606 sections 3 (j), 5.2, 5.3: the routes can't be known.
#[test]
fn a_session_is_reset_where_the_routes_cannot_be_known() {
    check(|internal| {
        let with = Maker::new(internal);
        let raw =
            |what: &str, body: &str, subcode| Row::established(what, message(2, &hex(body)), Notification(3, subcode));
        let reach = format!("800e1a 000201 10 {NEXT_HOP_V6} 00 20 fd000001");
        vec![
            raw("CVE-2026-37462: lengths that underflow", "ffff ffff", 1),
            raw("CVE-2026-37462: withdrawn routes that leave no attribute length", "0002 0000", 1),
            raw("withdrawn routes beyond the message", "0001 0000", 1),
            raw("attributes beyond the message", "0000 0001", 1),
            bare(
                "CVE-2023-47235: an End-of-RIB with a malformed attribute",
                "",
                "800f03 000201 400101 07",
                "",
                Notification(3, 1),
            ),
            bare("CVE-2023-47235: a malformed attribute alone", "", "40", "", Notification(3, 1)),
            with.beside("an unknown well-known attribute", "406301 00", Notification(3, 2)),
            with.beside("CVE-2023-46752: MP_REACH_NLRI of two octets", "800e02 0002", Notification(3, 9)),
            with.beside(
                "CVE-2023-46752: MP_REACH_NLRI that ends in its next hop",
                "800e06 000201 10 2001",
                Notification(3, 9),
            ),
            with.beside("MP_REACH_NLRI twice", &format!("{reach} {reach}"), Notification(3, 1)),
            with.beside("MP_UNREACH_NLRI twice", "800f03 000201 800f03 000201", Notification(3, 1)),
            with.beside(
                "an IPv6 prefix of 129 bits",
                &format!("800e17 000201 10 {NEXT_HOP_V6} 00 81 ff"),
                Notification(3, 9),
            ),
            bare("a withdrawn prefix of 33 bits", "21 0a01020380", "", "", Notification(3, 10)),
            bare("a withdrawn prefix that is cut", "18 0a01", "", "", Notification(3, 10)),
            Row::established(
                "an announced prefix of 33 bits",
                update(&[], &with.mandatory, &hex("21 0a01020380")),
                Notification(3, 10),
            ),
            Row::established(
                "an announced prefix of 255 bits",
                update(&[], &with.mandatory, &hex("ff")),
                Notification(3, 10),
            ),
        ]
    });
}

#[test]
fn routes_of_families_that_are_not_agreed_on_are_ignored() {
    check(|internal| {
        let with = Maker::new(internal);
        let reach = |what: &str, family: &str, nlri: &str| {
            let value = format!("{family} 00 00 {nlri}");
            with.beside(what, &format!("800e{:02x} {value}", hex(&value).len()), RoutesStay)
        };
        vec![
            reach("CVE-2023-38406: flowspec of length zero", "0001 85", "00"),
            reach("CVE-2023-41909: flowspec of a component that is not there", "0001 85", "02 0100"),
            reach("CVE-2025-43972: flowspec shorter than it says", "0001 85", "f0ff 01"),
            reach("flowspec of 4,000 nested operators", "0001 85", &"03 0100".repeat(60)),
            reach("CVE-2023-38407: labelled unicast that is cut", "0001 04", "18 00"),
            reach("VPN routes without a distinguisher", "0001 80", "08 00"),
            reach("a family that nobody knows", "4004 47", "ff"),
            with.beside("MP_UNREACH_NLRI of flowspec of length zero", "800f04 000185 00", RoutesStay),
            // Bits behind the length are no matter.
            bare("a withdrawal with bits behind its length", "17 0a0103", "", "", RoutesStay),
        ]
    });
}
