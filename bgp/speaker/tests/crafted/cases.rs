//! What ExaBGP sends, and what must become of it.

use std::fmt;

use margay_bgp_speaker::core::RejectReason;
use margay_bgp_speaker::core::wire::{
    AttributeType, Attributes, FLAG_OPTIONAL, FLAG_PARTIAL, FLAG_TRANSITIVE, RawAttribute,
};
use margay_net::Family;

/// The kind of the session that a message comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    External,
    Internal,
    /// External, of a peer with two-octet AS numbers.
    TwoOctets,
    /// External, with several paths of a prefix.
    AddPath,
}

impl Session {
    /// Our AS number in it: with two octets, ExaBGP takes no other than the one that it knows us by.
    pub fn our_asn(self) -> u32 {
        if self == Session::TwoOctets { 64512 } else { 4_200_000_001 }
    }

    pub const ALL: [Session; 4] = [Session::External, Session::Internal, Session::TwoOctets, Session::AddPath];
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Sent {
    /// A route with attributes in ExaBGP's words.
    Route(String),
    /// A route with this next hop, over IPv4 and over IPv6.
    NextHop([&'static str; 2]),
    /// An IPv6 route in an MP_REACH_NLRI of ours: its next hop with the length before it, and the length of the prefix,
    /// in hexadecimal digits. ExaBGP sends it beside an IPv4 route of its own.
    Reach { next_hop: &'static str, prefix_len: &'static str },
    /// A second path of the prefix.
    SecondPath,
    /// An OPEN with this AS number, this router id and these capabilities.
    Open { asn: u32, router_id: [u8; 4], capabilities: &'static str },
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Taken,
    /// Both paths are there.
    BothTaken,
    AttributeDiscard,
    TreatAsWithdraw,
    /// The route is kept, and not used.
    Unused(RejectReason),
    /// The session ends with a NOTIFICATION of this code and subcode.
    Reset(u8, u8),
    Established,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Taken => f.write_str("route taken"),
            Outcome::BothTaken => f.write_str("both paths taken"),
            Outcome::AttributeDiscard => f.write_str("attribute discarded, route taken"),
            Outcome::TreatAsWithdraw => f.write_str("treated as withdraw"),
            Outcome::Unused(reason) => write!(f, "route kept, not used: {reason}"),
            Outcome::Reset(code, subcode) => write!(f, "session reset, {code}/{subcode}"),
            Outcome::Established => f.write_str("session up"),
        }
    }
}

/// A row of the table.
pub struct Case {
    pub words: &'static str,
    pub session: Session,
    pub families: &'static [Family],
    pub sent: Sent,
    pub outcome: Outcome,
    /// What must be so of the route that another peer of ours is told; only of one that is taken.
    pub told: fn(&Attributes) -> bool,
}

impl Case {
    /// Whether the case needs a session of its own, since it ends it or is about its beginning.
    pub fn is_alone(&self) -> bool {
        matches!(self.outcome, Outcome::Reset(..) | Outcome::Established)
    }

    fn over(self, family: &'static [Family]) -> Case {
        Case { families: family, ..self }
    }

    fn told(self, told: fn(&Attributes) -> bool) -> Case {
        Case { told, ..self }
    }
}

const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];

fn case(words: &'static str, session: Session, sent: Sent, outcome: Outcome) -> Case {
    Case { words, session, families: &Family::ALL, sent, outcome, told: |_| true }
}

/// A route with attributes, of an external peer.
fn route(words: &'static str, attributes: &str, outcome: Outcome) -> Case {
    case(words, Session::External, Sent::Route(attributes.to_owned()), outcome)
}

fn internal(words: &'static str, attributes: &str, outcome: Outcome) -> Case {
    case(words, Session::Internal, Sent::Route(attributes.to_owned()), outcome)
}

fn two_octets(words: &'static str, attributes: &str, outcome: Outcome) -> Case {
    case(words, Session::TwoOctets, Sent::Route(attributes.to_owned()), outcome)
}

fn next_hop(words: &'static str, addresses: [&'static str; 2], outcome: Outcome) -> Case {
    case(words, Session::External, Sent::NextHop(addresses), outcome)
}

fn reach(words: &'static str, next_hop: &'static str, prefix_len: &'static str, outcome: Outcome) -> Case {
    case(words, Session::External, Sent::Reach { next_hop, prefix_len }, outcome).over(V6)
}

fn open(words: &'static str, session: Session, sent: (u32, [u8; 4], &'static str), outcome: Outcome) -> Case {
    let (asn, router_id, capabilities) = sent;
    case(words, session, Sent::Open { asn, router_id, capabilities }, outcome)
}

/// An attribute that nobody knows.
const UNKNOWN: AttributeType = AttributeType(230);
const COMMUNITIES: usize = 950;

fn has(attributes: &Attributes, kind: AttributeType) -> bool {
    attributes.unknown.iter().any(|attribute| attribute.kind == kind)
}

fn unknown(value: &[u8]) -> RawAttribute {
    RawAttribute { kind: UNKNOWN, flags: FLAG_OPTIONAL | FLAG_TRANSITIVE | FLAG_PARTIAL, value: value.into() }
}

/// All rows, in the order of the table.
pub fn all() -> Vec<Case> {
    [opens(), well_known(), next_hops(), lists(), others(), unknown_ones(), inside(), narrow(), several()]
        .into_iter()
        .flatten()
        .collect()
}

fn opens() -> Vec<Case> {
    use Outcome::{Established, Reset};
    let (id, ours) = ([192, 0, 2, 2], [192, 0, 2, 1]);
    let capabilities = "operational enable; nexthop enable; extended-message enable; aigp enable; graceful-restart 90;";
    vec![
        open(
            "OPEN with capabilities of which we know some and some not",
            Session::External,
            (65001, id, capabilities),
            Established,
        ),
        open("OPEN with another AS number", Session::External, (65009, id, ""), Reset(2, 2)),
        open("OPEN with our router id, eBGP (RFC 6286)", Session::External, (65001, ours, ""), Established),
        open("OPEN with our router id, iBGP", Session::Internal, (4_200_000_001, ours, ""), Reset(2, 3)),
        open("OPEN with the router id 0.0.0.0", Session::External, (65001, [0; 4], ""), Reset(2, 3)),
    ]
}

fn well_known() -> Vec<Case> {
    use Outcome::{AttributeDiscard, Taken, TreatAsWithdraw, Unused};
    let long = format!("as-path [ {} ]", (65001..65301).map(|asn| asn.to_string()).collect::<Vec<_>>().join(" "));
    vec![
        route("ORIGIN 3", "attribute [ 0x01 0x40 0x03 ]", TreatAsWithdraw),
        route("ORIGIN of no octet", "attribute [ 0x01 0x40 0x ]", TreatAsWithdraw),
        route("ORIGIN of two octets", "attribute [ 0x01 0x40 0x0000 ]", TreatAsWithdraw),
        route("ORIGIN flagged as optional", "attribute [ 0x01 0xc0 0x00 ]", TreatAsWithdraw),
        route("AS_PATH with a segment of unknown type", "attribute [ 0x02 0x40 0x09010000fde9 ]", TreatAsWithdraw),
        route("AS_PATH with an empty segment", "attribute [ 0x02 0x40 0x02010000fde90200 ]", TreatAsWithdraw),
        route("AS_PATH with a segment beyond its end", "attribute [ 0x02 0x40 0x02020000fde9 ]", TreatAsWithdraw),
        route("AS_PATH with a lone octet at its end", "attribute [ 0x02 0x40 0x02010000fde902 ]", TreatAsWithdraw),
        route("AS_PATH flagged as optional", "attribute [ 0x02 0xc0 0x02010000fde9 ]", TreatAsWithdraw),
        route(
            "AS_PATH with a confederation segment, from outside",
            "attribute [ 0x02 0x40 0x02010000fde903010000fdea ]",
            TreatAsWithdraw,
        ),
        route("AS_PATH with AS 0 (RFC 7607)", "as-path [ 65001 0 65005 ]", TreatAsWithdraw),
        route("AS_PATH with our AS number", "as-path [ 65001 4200000001 65005 ]", Unused(RejectReason::AsPathLoop)),
        route("AS_PATH with an AS_SET (RFC 9774)", "as-path [ 65001 ( 65005 65006 ) ]", Unused(RejectReason::AsSet)),
        route("AS_PATH that another AS begins", "as-path [ 65009 65001 ]", Unused(RejectReason::FirstAs)),
        route("an empty AS_PATH, eBGP", "attribute [ 0x02 0x40 0x ]", Unused(RejectReason::FirstAs)),
        route("AS_PATH of 300 AS numbers", &long, Taken)
            .told(|told| told.as_path.to_string().split(' ').count() == 301),
        route("MULTI_EXIT_DISC of three octets", "attribute [ 0x04 0x80 0x000001 ]", TreatAsWithdraw),
        route("MULTI_EXIT_DISC flagged as transitive", "attribute [ 0x04 0xc0 0x00000001 ]", TreatAsWithdraw),
        route("ATOMIC_AGGREGATE with a value", "attribute [ 0x06 0x40 0x00 ]", AttributeDiscard)
            .told(|told| !told.atomic_aggregate),
        route("AGGREGATOR of six octets", "attribute [ 0x07 0xc0 0xfde9c0000202 ]", AttributeDiscard)
            .told(|told| told.aggregator.is_none()),
        route("AGGREGATOR with AS 0", "attribute [ 0x07 0xc0 0x00000000c0000202 ]", AttributeDiscard)
            .told(|told| told.aggregator.is_none()),
    ]
}

fn next_hops() -> Vec<Case> {
    use Outcome::{AttributeDiscard, Reset, Taken, TreatAsWithdraw, Unused};
    let both = "20fd990000000000000000000000000002fe800000000000000000000000000002";
    vec![
        next_hop("a next hop of zeros", ["0.0.0.0", "::"], TreatAsWithdraw),
        next_hop("a multicast next hop", ["224.0.0.1", "ff02::1"], TreatAsWithdraw),
        next_hop("our address as next hop", ["192.0.2.1", "fd99::1"], Unused(RejectReason::NextHopIsSelf)),
        reach("MP_REACH_NLRI with a next hop of 16 octets", "10fd990000000000000000000000000002", "30", Taken),
        reach("MP_REACH_NLRI with a next hop of 32 octets", both, "30", Taken),
        reach("MP_REACH_NLRI with a link-local next hop alone", "10fe800000000000000000000000000002", "30", Taken),
        reach(
            "MP_REACH_NLRI with a next hop of 24 octets",
            "18fd9900000000000000000000000000020000000000000000",
            "30",
            Reset(3, 9),
        ),
        reach("MP_REACH_NLRI with a next hop of 4 octets", "04c0000202", "30", Reset(3, 9)),
        reach("MP_REACH_NLRI with a prefix of 129 bits", "10fd990000000000000000000000000002", "81", Reset(3, 9)),
        route(
            "MP_REACH_NLRI twice",
            "attribute [ 0x0e 0x80 0x00020110fd99000000000000000000000000000200 ]",
            Reset(3, 1),
        )
        .over(V6),
        route("MP_REACH_NLRI of two octets", "attribute [ 0x0e 0x80 0x0002 ]", Reset(3, 9)).over(V4),
        route("MP_UNREACH_NLRI of two octets", "attribute [ 0x0f 0x80 0x0002 ]", Reset(3, 9)),
        route(
            "MP_REACH_NLRI of a family that was not negotiated",
            "attribute [ 0x0e 0x80 0x00020110fd9900000000000000000000000000020030fd0000770001 ]",
            AttributeDiscard,
        )
        .over(V4),
    ]
}

fn lists() -> Vec<Case> {
    use Outcome::{Taken, TreatAsWithdraw};
    let many: Vec<String> = (0..COMMUNITIES).map(|n| format!("65001:{}", 1000 + n)).collect();
    let many = format!("community [ {} ]", many.join(" "));
    vec![
        route("COMMUNITIES of five octets", "attribute [ 0x08 0xc0 0xfde9006401 ]", TreatAsWithdraw),
        route("COMMUNITIES of no octet", "attribute [ 0x08 0xc0 0x ]", TreatAsWithdraw),
        route("COMMUNITIES flagged as well-known", "attribute [ 0x08 0x40 0xfde90064 ]", TreatAsWithdraw),
        route("COMMUNITIES with an extended length", "attribute [ 0x08 0xd0 0xfde90064 ]", Taken)
            .told(|told| told.communities.len() == 1),
        route("COMMUNITIES of 950 communities", &many, Taken).told(|told| told.communities.len() == COMMUNITIES),
        route("EXTENDED COMMUNITIES of seven octets", "attribute [ 0x10 0xc0 0x0002fde9000000 ]", TreatAsWithdraw),
        route("LARGE_COMMUNITY of 13 octets", "attribute [ 0x20 0xc0 0x00000001000000020000000301 ]", TreatAsWithdraw),
        route(
            "IPv6 EXTENDED COMMUNITIES of 19 octets",
            "attribute [ 0x19 0xc0 0x00022001000000000000000000000000000000 ]",
            TreatAsWithdraw,
        ),
    ]
}

fn others() -> Vec<Case> {
    use Outcome::{AttributeDiscard, Taken, TreatAsWithdraw};
    vec![
        route("ORIGINATOR_ID, eBGP", "originator-id 192.0.2.77", AttributeDiscard)
            .told(|told| told.originator_id.is_none()),
        route("CLUSTER_LIST, eBGP", "cluster-list [ 192.0.2.77 ]", AttributeDiscard)
            .told(|told| told.cluster_list.is_empty()),
        route(
            "AS4_PATH of a peer with four-octet AS numbers",
            "attribute [ 0x11 0xc0 0x02010001117a ]",
            AttributeDiscard,
        )
        .told(|told| !told.as_path.to_string().contains("70010")),
        route("AIGP of one octet", "attribute [ 0x1a 0x80 0x01 ]", Taken).told(|told| !has(told, AttributeType::AIGP)),
        route("AIGP, which we take no part in", "aigp 100", Taken).told(|told| !has(told, AttributeType::AIGP)),
        route("a Tunnel Encapsulation that ends early", "attribute [ 0x17 0xc0 0x000f ]", TreatAsWithdraw),
        route("ONLY_TO_CUSTOMER of three octets", "attribute [ 0x23 0xc0 0x000001 ]", TreatAsWithdraw),
        route("a BGP Prefix-SID of one octet", "attribute [ 0x28 0xc0 0x01 ]", AttributeDiscard)
            .told(|told| !has(told, AttributeType::PREFIX_SID)),
    ]
}

fn unknown_ones() -> Vec<Case> {
    use Outcome::{Reset, Taken};
    let long = format!("attribute [ 0xe6 0xc0 0x{} ]", "5a".repeat(3000));
    vec![
        route("an unknown attribute, optional and transitive", "attribute [ 0xe6 0xc0 0x010203 ]", Taken)
            .told(|told| told.unknown == [unknown(&[1, 2, 3])]),
        route("the same, marked as partial", "attribute [ 0xe6 0xe0 0x010203 ]", Taken)
            .told(|told| told.unknown == [unknown(&[1, 2, 3])]),
        route("the same of 3,000 octets", &long, Taken).told(|told| told.unknown == [unknown(&[0x5a; 3000])]),
        route("an unknown attribute, optional and not transitive", "attribute [ 0xe6 0x80 0x010203 ]", Taken)
            .told(|told| told.unknown.is_empty()),
        route("an unknown attribute, well-known", "attribute [ 0xe6 0x40 0x010203 ]", Reset(3, 2)),
    ]
}

fn inside() -> Vec<Case> {
    use Outcome::{Taken, TreatAsWithdraw, Unused};
    vec![
        internal("iBGP: LOCAL_PREF of three octets", "attribute [ 0x05 0x40 0x000064 ]", TreatAsWithdraw),
        internal("iBGP: LOCAL_PREF flagged as optional", "attribute [ 0x05 0xc0 0x00000064 ]", TreatAsWithdraw),
        internal("iBGP: ORIGINATOR_ID of three octets", "attribute [ 0x09 0x80 0xc00002 ]", TreatAsWithdraw),
        internal("iBGP: ORIGINATOR_ID that is ours", "originator-id 192.0.2.1", Unused(RejectReason::OriginatorLoop)),
        internal("iBGP: CLUSTER_LIST of five octets", "attribute [ 0x0a 0x80 0xc000024d01 ]", TreatAsWithdraw),
        internal(
            "iBGP: CLUSTER_LIST with ours",
            "cluster-list [ 192.0.2.77 192.0.2.1 ]",
            Unused(RejectReason::ClusterLoop),
        ),
        internal("iBGP: AS_PATH with our AS number", "as-path [ 65005 4200000001 ]", Unused(RejectReason::AsPathLoop)),
        internal("iBGP: an empty AS_PATH", "as-path [ ]", Taken),
    ]
}

fn narrow() -> Vec<Case> {
    use Outcome::{AttributeDiscard, Taken};
    vec![
        two_octets("two-octet AS numbers: AS_TRANS and AS4_PATH", "as-path [ 65001 70010 ]", Taken)
            .told(|told| told.as_path.to_string() == "64512 65001 70010"),
        two_octets(
            "two-octet AS numbers: AS4_PATH twice",
            "as-path [ 65001 70010 ] attribute [ 0x11 0xc0 0x02020000fde900011180 ]",
            AttributeDiscard,
        )
        .told(|told| told.as_path.to_string() == "64512 65001 70010"),
        two_octets(
            "two-octet AS numbers: AS4_PATH of five octets",
            "as-path [ 65001 23456 ] attribute [ 0x11 0xc0 0x0201000111 ]",
            AttributeDiscard,
        )
        .told(|told| told.as_path.to_string() == "64512 65001 23456"),
        two_octets(
            "two-octet AS numbers: AGGREGATOR of eight octets",
            "attribute [ 0x07 0xc0 0x0000fde9c0000202 ]",
            AttributeDiscard,
        )
        .told(|told| told.aggregator.is_none()),
    ]
}

fn several() -> Vec<Case> {
    vec![
        case("ADD-PATH: a second path of a prefix", Session::AddPath, Sent::SecondPath, Outcome::BothTaken),
        case(
            "ADD-PATH: ORIGIN 3 in one of two paths",
            Session::AddPath,
            Sent::Route("path-information 2 attribute [ 0x01 0x40 0x03 ]".to_owned()),
            Outcome::TreatAsWithdraw,
        ),
    ]
}
