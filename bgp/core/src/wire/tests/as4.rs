//! AS numbers of four octets from peers of two (RFC 6793).

use super::super::{DecodeContext, PeerKind, Treatment, Update};
use super::{context, decode_update, hex, update_message};

fn decoded(attributes: &str) -> Update {
    let context = DecodeContext { four_octet_asn: false, ..context(PeerKind::External) };
    let attributes = format!("400101 00 400304 c0000201 {attributes}");
    decode_update(&update_message(&[], &hex(&attributes), &hex("08 0a")), &context).unwrap()
}

fn path(attributes: &str) -> String {
    decoded(attributes).announced[0].attributes.as_path.to_string()
}

#[test]
fn as4_path_replaces_what_it_covers_of_as_path() {
    assert_eq!(path("400206 0202 0001 5ba0 c01106 0201 00011170"), "1 70000");
    // CVE-2026-41643: in whatever order they come.
    assert_eq!(path("c01106 0201 00011170 400206 0202 0001 5ba0"), "1 70000");
    assert_eq!(path("400204 0201 0001 c0110a 0202 00011170 00011171"), "1");
    assert_eq!(path("400206 0202 0001 5ba0"), "1 23456");
    assert_eq!(path("400206 0202 0001 5ba0 c0110c 0301 0000fc00 0201 00011170"), "1 70000");
}

#[test]
fn a_malformed_as4_attribute_is_discarded() {
    for attribute in [
        "c01100",
        "c01105 0201 000111",
        "c01106 0202 00011170",
        "c01106 0701 00011170",
        "c01106 0201 00000000",
        "c01108 0201 00011170 0200",
        "c01207 00011170 c00002",
        "c01208 00000000 c0000201",
    ] {
        let update = decoded(&format!("400206 0202 0001 5ba0 {attribute}"));
        assert_eq!(update.problems[0].treatment, Treatment::AttributeDiscard, "{attribute}");
        assert_eq!(update.announced[0].attributes.as_path.to_string(), "1 23456", "{attribute}");
    }
}

#[test]
fn as4_aggregator_replaces_as_trans_only() {
    let aggregator = |attributes: &str| {
        let update = decoded(&format!("400206 0202 0001 5ba0 {attributes}"));
        let attributes = update.announced[0].attributes.clone();
        (attributes.aggregator.map(|aggregator| aggregator.asn.0), attributes.as_path.to_string())
    };
    let as4 = "c01106 0201 00011170 c01208 00011170 c0000202";
    assert_eq!(aggregator(&format!("c00706 5ba0 c0000201 {as4}")), (Some(70000), "1 70000".to_owned()));
    // A real number says that both are out of date.
    assert_eq!(aggregator(&format!("c00706 0005 c0000201 {as4}")), (Some(5), "1 23456".to_owned()));
    let as4_path = "c01106 0201 00011170";
    assert_eq!(aggregator(&format!("c00706 0005 c0000201 {as4_path}")), (Some(5), "1 70000".to_owned()));
    assert_eq!(aggregator(as4), (None, "1 70000".to_owned()));
    assert_eq!(aggregator("c00706 5ba0 c0000201"), (Some(23456), "1 23456".to_owned()));
}
