#![allow(clippy::unwrap_used)]

use std::path::Path;

use margay_bgp_core::{AddPathSend, MaxPrefixesAction, NextHopMode, PeerName, RuleAction, SetOperation};
use margay_net::Family;

use super::build::{Plan, build};
use super::conductor::load;
use super::schema::{Fib, parse};

/// What is wrong with a file, a line for each thing.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(problem) => vec![problem.to_string()],
        Ok(file) => match built(&file) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        },
    }
}

fn built(file: &super::schema::File) -> Result<Plan, Vec<String>> {
    let password = |name: &str| match name {
        "good" => Ok("secret".to_owned()),
        _ => Err(format!("cannot read {name}: no such file")),
    };
    build(file, &password).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn plan(text: &str) -> Plan {
    built(&parse(text).unwrap()).unwrap()
}

const HEAD: &str = "asn: 65000\nrouterId: 192.0.2.1\n";

/// A file with one peer, whose settings begin in line 7, column 5.
fn with_peer(settings: &str) -> String {
    let settings: String = settings.lines().map(|line| format!("    {line}\n")).collect();
    format!("{HEAD}peers:\n  tor:\n    address: 192.0.2.2\n    asn: 65001\n{settings}")
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_column() {
    let peer = |settings: &str| with_peer(settings);
    let mut wrong = Vec::new();
    for (text, wanted) in [
        ("asn: 65000\n".to_owned(), "line 1, column 1: missing field `routerId`"),
        (
            format!("{HEAD}peerz: {{}}\n"),
            "line 3, column 1: unknown field `peerz`; docs/standalone.md lists what there is",
        ),
        ("asn: 65000\nrouterId: 192.0.2\n".to_owned(), "line 2, column 11: invalid IPv4 address"),
        ("asn: 0\nrouterId: 192.0.2.1\n".to_owned(), "line 1, column 6: AS number 0 is reserved"),
        ("asn: 1\nrouterId: 0.0.0.0\n".to_owned(), "line 2, column 11: the router id is not 0.0.0.0"),
        (format!("{HEAD}networks:\n  - 10.0.0.1/8\n"), "line 4, column 5: 10.0.0.1/8 has bits set beyond its length"),
        (format!("{HEAD}fib: everywhere\n"), "line 3, column 6: unknown variant `everywhere`"),
        (format!("{HEAD}asn: 1\n"), "line 3, column 1: duplicate mapping key: asn"),
        (format!("{HEAD}gracefulRestart: {{restartTime: 2h}}\n"), "line 3, column 32: a restart time is at most 4095s"),
        (peer("holdtime: 3s"), "line 7, column 5: unknown field `holdtime`; did you mean `holdTime`?"),
        (peer("holdTime: 2s"), "line 7, column 15: a hold time is 0, or 3 to 65535 whole seconds"),
        (peer("holdTime: soon"), "line 7, column 15: 'soon' is not a span of time"),
        (peer("holdTime: 9s\nkeepalive: 9s"), "line 8, column 16: a keepalive interval is more than 0 and less"),
        (peer("connectRetry: 0"), "line 7, column 19: connectRetry is at least 1s"),
        (peer("template: none"), "line 7, column 15: there is no template 'none'; there is no template at all"),
        (peer("import: [nope]"), "line 7, column 14: there is no filter 'nope'; there are accept-all, reject-all"),
        (peer("import: nope"), "line 7, column 13:"),
        (peer("password: ''"), "line 7, column 15: a password has 1 to 80 bytes"),
        (peer("passwordFile: bad"), "line 7, column 19: cannot read bad: no such file"),
        (peer("password: x\npasswordFile: good"), "line 8, column 19: 'password' and 'passwordFile' exclude"),
        (peer("ttlSecurity: 0"), "line 7, column 18: ttlSecurity is the number of hops"),
        (peer("ttlSecurity: 1\nmultihop: true"), "line 7, column 18: a multihop peer is more than 1 hop away"),
        (peer("source: fd00::1"), "line 7, column 13: the source is not of the peer address's family"),
        (peer("port: 0"), "line 7, column 11: a port is 1 to 65535"),
        (peer("families: []"), "line 7, column 15: a session carries at least one family"),
        (peer("families: [ipv5]"), "line 7, column 16: unknown variant `ipv5`"),
        (peer("localAsn: 0"), "line 7, column 15: AS number 0 is reserved"),
        (peer("routeReflectorClient: true"), "line 7, column 27: peer 'tor' is external"),
        (peer("maxPrefixes: {ipv4: {limit: 0}}"), "line 7, column 33: a limit is at least 1"),
        (peer("maxPrefixes: {ipv4: {limit: 9, warningPercent: 0}}"), "line 7, column 52: warningPercent is 1 to 100"),
        (
            peer("maxPrefixes: {ipv4: {limit: 9, action: hold, restartAfter: 3s}}"),
            "line 7, column 64: restartAfter belongs to 'action: restart'",
        ),
        (peer("bfd: {multiplier: 0}"), "line 7, column 10: a BFD multiplier is 1 to 255"),
        (peer("bfd: {minTx: 1ms}"), "line 7, column 10: BFD intervals are 10ms to 60s"),
        (peer("addPath: {send: 0}"), "line 7, column 15: invalid value: integer `0`, expected none, all, or"),
        (format!("{HEAD}peers:\n  tor:\n    asn: 65001\n"), "line 5, column 5: peer 'tor' has no address"),
        (format!("{HEAD}peers:\n  tor:\n    address: 192.0.2.2\n"), "line 5, column 5: peer 'tor' has no asn"),
        (
            format!("{HEAD}peers:\n  tor:\n    address: fe80::1\n    asn: 1\n"),
            "line 5, column 14: 'fe80::1' is link-local: say by which interface, as in fe80::1%eth0",
        ),
        (
            format!("{}  two:\n    address: 192.0.2.2\n    asn: 1\n", with_peer("")),
            "line 8, column 14: peers 'tor' and 'two' have the same address",
        ),
        (
            format!("{HEAD}peers:\n  'a b':\n    address: 192.0.2.2\n    asn: 1\n"),
            "line 5, column 5: 'a b' is not a name",
        ),
        (
            format!("{HEAD}templates:\n  t:\n    address: 192.0.2.2\n"),
            "line 5, column 14: a template has no address: peers have",
        ),
        (
            format!(
                "{HEAD}listenRanges:\n  r: {{prefix: 10.0.0.0/8, limit: 0, template: t}}\ntemplates: {{t: {{asn: 1}}}}\n"
            ),
            "line 4, column 34: a listen range takes at least one peer",
        ),
        (
            format!(
                "{HEAD}listenRanges:\n  r: {{prefix: 10.0.0.0/8, limit: 1, template: t}}\ntemplates: {{t: {{}}}}\n"
            ),
            "line 4, column 47: the template has no asn",
        ),
        (
            format!("{HEAD}filters:\n  f:\n    rules:\n      - {{prefixes: [10.0.0.0/8 le 4], action: accept}}\n"),
            "line 6, column 21: 'le' in '10.0.0.0/8 le 4' takes a length from 8 to 32",
        ),
        (
            format!("{HEAD}filters:\n  f:\n    rules:\n      - {{communities: ['65536:1'], action: accept}}\n"),
            "line 6, column 24: '65536:1' is not a community",
        ),
        (
            format!(
                "{HEAD}filters:\n  f:\n    rules:\n      - action: accept\n        set:\n          - removeCommunity: '1:2:3'\n"
            ),
            "line 8, column 30: only communities of the form AS:NUMBER can be removed",
        ),
        (
            format!(
                "{HEAD}filters:\n  f:\n    rules:\n      - action: accept\n        set: [{{prepend: {{count: 11}}}}]\n"
            ),
            "line 7, column 33: an AS number is prepended 1 to 10 times",
        ),
        (
            format!("{HEAD}filters:\n  f:\n    rules:\n      - {{prefixes: []}}\n"),
            "line 6, column 10: missing field `action`",
        ),
        (format!("{HEAD}filters: {{accept-all: {{}}}}\n"), "the filter 'accept-all' is built in"),
        ("asn: [1\nrouterId: 2\n".to_owned(), "line "),
    ] {
        let found = problems(&text);
        if found.len() != 1 || !found[0].starts_with(wanted) {
            wrong.push(format!("{text}said   {found:#?}\nwanted {wanted}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_files_order() {
    let found = problems(&with_peer("holdTime: 1s\nimport: [nope]\nttlSecurity: 0"));
    let lines: Vec<&str> = found.iter().map(|problem| &problem[..6]).collect();
    assert_eq!(lines, ["line 7", "line 8", "line 9"]);
}

#[test]
fn a_peer_overrides_its_template_field_by_field() {
    let made = plan(&format!(
        "{HEAD}templates:\n  fabric:\n    asn: 65001\n    holdTime: 9s\n    passwordFile: good\n    nextHop: self\n    \
         addPath: {{receive: true, send: 4}}\n    maxPrefixes: {{ipv4: {{limit: 9, action: hold}}}}\n    \
         import: [accept-all]\n    export: [accept-all]\npeers:\n  tor:\n    template: fabric\n    \
         address: fe80::1%eth0\n    holdTime: 30\n    families: [ipv4, ipv6]\n"
    ));
    let peer = &made.config.peers[&PeerName::from("tor")];
    assert_eq!((peer.asn.0, peer.hold_time.as_secs()), (65001, 30));
    assert_eq!(peer.password.as_ref().map(|password| password.expose().to_owned()), Some("secret".to_owned()));
    assert_eq!((peer.next_hop, peer.add_path.send), (NextHopMode::SelfAddress, AddPathSend::Best(4)));
    assert_eq!(peer.max_prefixes[&Family::V4].action, MaxPrefixesAction::Hold);
    assert_eq!(peer.interface.as_deref(), Some("eth0"));
    assert_eq!(peer.families.len(), 2);
    assert!(peer.import.0.accept_by_default && made.warnings.is_empty());
}

#[test]
fn an_external_peer_without_filters_exchanges_nothing_unless_the_file_says_so() {
    let made = plan(&with_peer(""));
    let peer = &made.config.peers[&PeerName::from("tor")];
    assert!(!peer.import.0.accept_by_default && !peer.export.0.accept_by_default);
    assert_eq!(made.warnings.len(), 2);
    let open = plan(&format!("ebgpRequiresPolicy: false\n{}", with_peer("")));
    assert!(open.config.peers[&PeerName::from("tor")].export.0.accept_by_default && open.warnings.is_empty());
    let internal = plan(&with_peer("localAsn: 65001"));
    assert!(internal.config.peers[&PeerName::from("tor")].import.0.accept_by_default);
}

#[test]
fn filters_are_chained_and_their_rules_keep_their_names() {
    let made = plan(&format!(
        "filters:\n  marks:\n    rules:\n      - action: next\n        set: [{{med: 5}}, {{addCommunity: no-export}}, \
         {{prepend: {{count: 2}}}}]\n  ours:\n    default: reject\n    rules:\n      - {{from: [networks], \
         action: accept}}\n      - {{prefixes: ['10.0.0.0/8 le 24'], communities: ['1:2', '1:2:3', 'rt:1:2'], \
         action: accept}}\n{}",
        with_peer("export: [marks, ours]\nimport: [reject-all]")
    ));
    let peer = PeerName::from("tor");
    let rules = &made.config.peers[&peer].export.0;
    let actions: Vec<RuleAction> = rules.rules.iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [RuleAction::Next, RuleAction::Accept, RuleAction::Accept]);
    assert!(!rules.accept_by_default);
    let prepend = SetOperation::Prepend { asn: made.config.asn, count: 2 };
    assert_eq!(rules.rules[0].set, [SetOperation::Med(5), SetOperation::AddCommunity(0xffff_ff01), prepend]);
    let matches = &rules.rules[2].matches;
    assert_eq!(
        (matches.communities.len(), matches.large_communities.len(), matches.extended_communities.len()),
        (1, 1, 1)
    );
    assert_eq!(
        made.export_rules[&peer],
        ["rule 1 of filter 'marks'", "rule 1 of filter 'ours'", "rule 2 of filter 'ours'"]
    );
}

#[test]
fn a_listen_range_makes_passive_peers_of_its_template() {
    let made = plan(&format!(
        "{HEAD}templates:\n  leaf: {{holdTime: 9s, import: [accept-all], export: [accept-all]}}\nlistenRanges:\n  \
         rack: {{prefix: 10.0.0.0/24, limit: 40, asns: [65001, 65002], template: leaf}}\n"
    ));
    let range = &made.config.listen_ranges[&PeerName::from("rack")];
    assert_eq!((range.limit, range.asns.len(), range.template.passive), (40, 2, true));
}

#[test]
fn the_examples_are_good_and_warn_of_nothing() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples");
    for (name, fib) in
        [("speaker.yaml", Fib::Kernel), ("speaker-tor.yaml", Fib::Kernel), ("speaker-reflector.yaml", Fib::None)]
    {
        let made = load(&directory.join(name)).unwrap();
        assert_eq!((made.fib, made.warnings.as_slice()), (fib, [].as_slice()), "{name}");
    }
}

#[test]
fn the_documentation_names_every_field() {
    let page = include_str!("../../../../docs/standalone.md");
    let source = include_str!("schema.rs");
    let fields = source.lines().filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(": "));
    let mut count = 0;
    for (field, _) in fields.filter(|(field, _)| !field.contains(' ')) {
        let mut camel = String::new();
        let mut upper = false;
        for c in field.chars() {
            match c {
                '_' => upper = true,
                c if std::mem::take(&mut upper) => camel.push(c.to_ascii_uppercase()),
                c => camel.push(c),
            }
        }
        assert!(page.contains(&format!("`{camel}`")), "docs/standalone.md does not name '{camel}'");
        count += 1;
    }
    assert!(count > 60, "{count} fields found");
}
