//! What the dataplane writes, finds and repairs in the kernel's table.
#![allow(clippy::unwrap_used)]

mod policy_support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use margay_felix_agent::policy::{HostRules, PolicyDataplane, PolicyError, Report};
use margay_felix_core::policy::*;
use margay_netlink::nft::NftSocket;
use policy_support::*;

const TCP: Option<u8> = Some(6);

/// Tables with something in every set.
fn full_tables() -> PolicyTables {
    let mut tables = isolated_b();
    tables.endpoints.get_mut(A).unwrap().egress = Some(ProgramId(2));
    tables.identities = [(ip(A4), IdentityId(7)), (ip(A6), IdentityId(7)), (ip(B4), IdentityId(8))].into();
    tables.ranges = [
        (ip("192.0.2.0"), (ip("192.0.2.127"), IdentityId(9))),
        (ip("192.0.2.128"), (ip("192.0.2.255"), IdentityId(10))),
        (ip("224.0.0.0"), (ip("255.255.255.255"), IdentityId(9))),
        (ip("2001:db8::"), (ip("2001:db8::ffff"), IdentityId(9))),
    ]
    .into();
    tables.allows = [
        allow(1, 7, TCP, PortMatch::One(5432)),
        allow(1, 9, Some(17), PortMatch::Range(1000, 2000)),
        allow(1, 9, Some(17), PortMatch::Range(1500, 2500)),
        allow(2, 8, None, PortMatch::Any),
        allow(2, 0, Some(1), PortMatch::Any),
    ]
    .into();
    tables
}

fn generation(node: &Namespace) -> u32 {
    node.run(|| NftSocket::open().unwrap().generation().unwrap())
}

fn dataplane(node: &Namespace) -> PolicyDataplane {
    node.run(|| PolicyDataplane::open().unwrap())
}

fn repaired(report: &Report) -> Vec<(&str, usize)> {
    report.repaired.iter().map(|(object, count)| (object.as_str(), *count)).collect()
}

#[test]
fn a_restart_over_the_same_state_sends_nothing() {
    let node = Namespace::new();
    let report = dataplane(&node).resync(&full_tables()).unwrap();
    assert_eq!(repaired(&report), [("table", 1)]);
    let before = generation(&node);
    let mut restarted = dataplane(&node);
    assert!(restarted.ensure_skeleton().unwrap().is_clean());
    let report = restarted.resync(&full_tables()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(generation(&node), before);
}

#[test]
fn nft_lists_the_table_and_reads_its_listing_back() {
    let node = Namespace::new();
    dataplane(&node).resync(&full_tables()).unwrap();
    let json = node.exec("nft -j list ruleset");
    for object in [
        r#"["192.0.2.128/25", "0:a"]"#,
        r#"{"concat": [1, "0:7", "tcp", 5432]}"#,
        r#"{"concat": [1, "0:9", "udp", {"range": [1000, 2500]}]}"#,
        r#"["cali000000000aa", 2]"#,
    ] {
        let prefix = object.replace("\"192.0.2.128/25\"", r#"{"prefix": {"addr": "192.0.2.128", "len": 25}}"#);
        assert!(json.contains(&prefix), "{prefix} is not in {json}");
    }
    let text = node.exec("nft list ruleset");
    let file = std::env::temp_dir().join(format!("{}.nft", node.0));
    std::fs::write(&file, &text).unwrap();
    node.exec(&format!("nft -c -f {}", file.display()));
    node.exec("nft flush ruleset");
    node.exec(&format!("nft -f {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(node.exec("nft list ruleset"), text);
}

#[test]
fn the_rules_are_the_documented_ones() {
    let node = Namespace::new();
    dataplane(&node).resync(&PolicyTables::default()).unwrap();
    let text = node.exec("nft list chain inet margay egress");
    let rules: Vec<_> =
        text.lines().map(str::trim).filter(|l| l.starts_with("meta") || l.starts_with("goto")).collect();
    assert_eq!(
        rules,
        [
            "meta priority set ip daddr map @identity4 goto allow_out",
            "meta priority set ip6 daddr map @identity6 goto allow_out",
            "meta priority set none",
            "meta priority set ip daddr map @identity_range4",
            "meta priority set ip6 daddr map @identity_range6",
            "goto allow_out",
        ]
    );
    let text = node.exec("nft list chain inet margay to_node");
    assert!(text.contains("tcp dport 179 counter packets 0 bytes 0 drop"), "{text}");
    assert!(text.contains("icmpv6 type @neighbour_discovery accept"), "{text}");
    let text = node.exec("nft list chain inet margay anti_spoof");
    assert!(text.contains("iifname . ip saddr @endpoint_source4 accept"), "{text}");
    assert!(text.contains("iifname . ip6 saddr @endpoint_source6 accept"), "{text}");
}

#[test]
fn drift_is_repaired_and_counted_by_object() {
    let node = Namespace::new();
    let mut dataplane = dataplane(&node);
    dataplane.resync(&full_tables()).unwrap();
    let cases = [
        ("nft delete element inet margay allow_one { 1 . 0:7 . tcp . 5432 }", "set allow_one", 1),
        ("nft add element inet margay allow_one { 1 . 0:7 . tcp . 1 }", "set allow_one", 1),
        ("nft add element inet margay allow_all { 9 . 0:9 }", "set allow_all", 1),
        ("nft delete element inet margay allow_range { 1 . 0:9 . udp . 1000-2500 }", "set allow_range", 1),
        ("nft delete element inet margay identity_range4 { 192.0.2.0-192.0.2.127 }", "map identity_range4", 1),
        ("nft add element inet margay identity_range4 { 10.0.0.0/8 : 0:3 }", "map identity_range4", 1),
        ("nft delete element inet margay identity4 { 10.65.0.1 }", "map identity4", 1),
        ("nft flush set inet margay endpoints", "set endpoints", 2),
        ("nft flush chain inet margay forward", "chain forward", 5),
        ("nft insert rule inet margay from_pod accept", "chain from_pod", 4),
        ("nft add chain inet margay forward { policy drop ; }", "table", 1),
        ("nft add chain inet margay mine", "table", 1),
        ("nft add set inet margay mine { type ifname ; }", "table", 1),
        ("nft delete table inet margay", "table", 1),
    ];
    for (line, object, count) in cases {
        node.exec(line);
        let report = dataplane.resync(&full_tables()).unwrap();
        assert_eq!(repaired(&report), [(object, count)], "{line}");
        let report = dataplane.resync(&full_tables()).unwrap();
        assert!(report.is_clean(), "{line}: {report:?}");
    }
}

#[test]
fn what_the_host_asks_for_follows_each_step_and_is_repaired() {
    let node = Namespace::new();
    let host = |services: &[&str], bgp_peers: &[&str]| HostRules {
        services: services.iter().map(|service| service.parse().unwrap()).collect(),
        bgp_peers: bgp_peers.iter().map(|name| (*name).to_owned()).collect(),
    };
    let mut stepped = dataplane(&node);
    stepped.resync(&full_tables()).unwrap();
    // Neighbours, one within the other, the ends of the address space, and back.
    for (asked, elements) in [
        (host(&["10.96.0.0/13", "10.104.0.0/13", "fd96::/112"], &[A]), 4),
        (host(&["10.96.0.0/12", "10.96.0.7/32", "10.112.0.1/32"], &[A, B]), 6),
        (host(&["10.96.0.7/32", "10.96.0.8/32"], &[B]), 5),
        (host(&["0.0.0.0/0", "::/0"], &[]), 5),
        (host(&["255.255.255.255/32", "ffff::/16"], &[]), 4),
        (host(&["10.96.0.0/12"], &[A]), 4),
    ] {
        assert_eq!(stepped.apply_host(&asked).unwrap().elements, elements, "{asked:?}");
        let mut fresh = dataplane(&node);
        fresh.set_host(asked.clone());
        let report = fresh.resync(&full_tables()).unwrap();
        assert!(report.is_clean(), "{asked:?}: {report:?}");
    }
    for (line, object) in [
        ("nft delete element inet margay services4 { 10.96.0.0/12 }", "set services4"),
        ("nft add element inet margay services6 { fd00::/8 }", "set services6"),
        ("nft flush set inet margay bgp_peers", "set bgp_peers"),
    ] {
        node.exec(line);
        let report = stepped.resync(&full_tables()).unwrap();
        assert_eq!(repaired(&report), [(object, 1)], "{line}");
    }
    let text = node.exec("nft list chain inet margay forward");
    assert!(text.contains("oifname != \"cali*\" ip daddr @services4 counter packets 0 bytes 0 drop"), "{text}");
    assert!(text.contains("oifname != \"cali*\" ip6 daddr @services6 counter packets 0 bytes 0 drop"), "{text}");
    let text = node.exec("nft list chain inet margay to_node");
    assert!(text.contains("iifname @bgp_peers tcp dport 179 accept"), "{text}");
    let bad = stepped.apply_host(&host(&[], &["a-name-that-no-link-has"]));
    assert!(matches!(bad, Err(PolicyError::InterfaceName(_))), "{bad:?}");
    assert!(stepped.resync(&full_tables()).unwrap().is_clean());
}

#[test]
fn several_kinds_of_drift_are_one_transaction() {
    let node = Namespace::new();
    let mut dataplane = dataplane(&node);
    dataplane.resync(&full_tables()).unwrap();
    node.exec("nft flush chain inet margay allow_in");
    node.exec("nft flush map inet margay program_in");
    node.exec("nft flush set inet margay allow_all");
    let before = generation(&node);
    let report = dataplane.resync(&full_tables()).unwrap();
    assert_eq!(repaired(&report), [("chain allow_in", 10), ("map program_in", 1), ("set allow_all", 1)]);
    assert_eq!(generation(&node), before + 1);
}

#[test]
fn a_foreign_table_of_the_name_is_replaced_in_one_transaction() {
    let node = Namespace::new();
    node.exec("nft add table inet margay");
    node.exec("nft add set inet margay endpoints { type ipv4_addr ; }");
    node.exec("nft add chain inet margay c { type filter hook forward priority 5 ; policy drop ; }");
    let before = generation(&node);
    let report = dataplane(&node).resync(&full_tables()).unwrap();
    assert_eq!(repaired(&report), [("table", 1)]);
    assert_eq!(generation(&node), before + 1);
    assert!(dataplane(&node).resync(&full_tables()).unwrap().is_clean());
}

#[test]
fn other_tables_are_left_alone() {
    let node = Namespace::new();
    node.exec("nft add table inet other");
    node.exec("nft add table ip margay");
    let mut dataplane = dataplane(&node);
    dataplane.resync(&full_tables()).unwrap();
    dataplane.remove_all().unwrap();
    dataplane.remove_all().unwrap();
    assert_eq!(node.exec("nft list tables"), "table inet other\ntable ip margay\n");
}

#[test]
fn an_empty_change_and_one_that_takes_itself_back_send_nothing() {
    let node = Namespace::new();
    let mut dataplane = dataplane(&node);
    dataplane.resync(&full_tables()).unwrap();
    let before = generation(&node);
    assert_eq!(dataplane.apply(&PolicyChanges::default()).unwrap().elements, 0);
    let same = PolicyChanges { removed: full_tables(), added: full_tables() };
    assert_eq!(dataplane.apply(&same).unwrap().elements, 0);
    assert_eq!(generation(&node), before);
}

#[test]
fn a_change_that_does_not_fit_the_kernels_state_is_refused_as_a_whole() {
    let node = Namespace::new();
    let mut dataplane = dataplane(&node);
    dataplane.resync(&full_tables()).unwrap();
    let before = generation(&node);
    let mut added = PolicyTables::default();
    added.allows.insert(allow(3, 3, None, PortMatch::Any));
    added.allows.insert(allow(1, 7, TCP, PortMatch::One(5432)));
    let error = dataplane.apply(&PolicyChanges { removed: PolicyTables::default(), added }).unwrap_err();
    assert!(error.to_string().contains("add element 1 of 1 to set allow_one: File exists"), "{error}");
    assert_eq!(generation(&node), before);
    assert!(dataplane.resync(&full_tables()).unwrap().is_clean());
}

#[test]
fn a_name_that_no_interface_can_have_is_refused() {
    let node = Namespace::new();
    let mut tables = PolicyTables::default();
    tables.endpoints.insert("cali0123456789ab".into(), EndpointPrograms::default());
    let error = dataplane(&node).resync(&tables).unwrap_err();
    assert!(matches!(&error, PolicyError::InterfaceName(name) if name == "cali0123456789ab"), "{error}");
}

/// The difference of two tables, as felix/core computes it.
fn changes(old: &PolicyTables, new: &PolicyTables) -> PolicyChanges {
    fn minus<K: Ord + Clone, V: PartialEq + Clone>(a: &BTreeMap<K, V>, b: &BTreeMap<K, V>) -> BTreeMap<K, V> {
        a.iter().filter(|(k, v)| b.get(k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
    let difference = |a: &PolicyTables, b: &PolicyTables| PolicyTables {
        endpoints: minus(&a.endpoints, &b.endpoints),
        identities: minus(&a.identities, &b.identities),
        ranges: minus(&a.ranges, &b.ranges),
        allows: a.allows.difference(&b.allows).copied().collect(),
    };
    PolicyChanges { removed: difference(old, new), added: difference(new, old) }
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as u32 % bound
    }

    fn tables(&mut self) -> PolicyTables {
        let mut tables = PolicyTables::default();
        for n in 0..self.below(6) {
            let program = |n: u32| (n > 0).then_some(ProgramId(n));
            let addresses = (0..self.below(3)).map(|_| ip(&format!("10.65.0.{}", self.below(6)))).collect();
            let programs =
                EndpointPrograms { addresses, ingress: program(self.below(3)), egress: program(self.below(3)) };
            tables.endpoints.insert(format!("cali{n}"), programs);
        }
        for _ in 0..self.below(6) {
            tables.identities.insert(ip(&format!("10.65.0.{}", self.below(6))), IdentityId(1 + self.below(3)));
        }
        // Disjoint by construction, often adjacent.
        let mut at = 0;
        while at < 40 {
            let len = 1 + self.below(8);
            if self.below(2) == 0 {
                let (first, last) = (format!("10.70.0.{at}"), format!("10.70.0.{}", at + len - 1));
                tables.ranges.insert(ip(&first), (ip(&last), IdentityId(1 + self.below(2))));
                tables
                    .ranges
                    .insert(ip(&format!("fd70::{at:x}")), (ip(&format!("fd70::{:x}", at + len - 1)), IdentityId(2)));
            }
            at += len;
        }
        if self.below(2) == 0 {
            tables.ranges.insert(ip("255.255.255.0"), (ip("255.255.255.255"), IdentityId(1)));
        }
        for _ in 0..self.below(12) {
            let first = self.below(20) as u16;
            let ports = match self.below(4) {
                0 => PortMatch::Any,
                1 => PortMatch::One(first),
                _ => PortMatch::Range(first, first + 1 + self.below(10) as u16),
            };
            let protocol = if ports == PortMatch::Any && self.below(2) == 0 { None } else { TCP };
            tables.allows.insert(allow(1 + self.below(2), self.below(2), protocol, ports));
        }
        tables
    }
}

#[test]
fn any_sequence_of_changes_leaves_the_kernel_as_a_resync_would() {
    let node = Namespace::new();
    let mut dataplane = dataplane(&node);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut current = random.tables();
    dataplane.resync(&current).unwrap();
    for step in 0..300 {
        let next = random.tables();
        dataplane
            .apply(&changes(&current, &next))
            .unwrap_or_else(|e| panic!("step {step}: {e}\n{current:?}\n{next:?}"));
        current = next;
        let report = dataplane.resync(&current).unwrap();
        assert!(report.is_clean(), "step {step}: {report:?}");
    }
    node.exec("nft -j list ruleset");
    // From one state to any other by resync alone.
    for _ in 0..50 {
        current = random.tables();
        dataplane.resync(&current).unwrap();
        assert!(dataplane.resync(&current).unwrap().is_clean());
    }
}

#[test]
fn one_change_costs_milliseconds_with_ten_thousand_endpoints() {
    let node = Namespace::new();
    let mut dataplane = dataplane(&node);
    let mut tables = PolicyTables::default();
    for n in 0..10_000_u32 {
        let address = ip(&format!("10.{}.{}.{}", 100 + n / 65_536, n / 256 % 256, n % 256));
        let programs = EndpointPrograms {
            addresses: [address].into(),
            ingress: Some(ProgramId(1 + n % 1000)),
            egress: Some(ProgramId(2000 + n % 1000)),
        };
        tables.endpoints.insert(format!("cali{n:011x}"), programs);
        tables.identities.insert(address, IdentityId(1 + n % 500));
    }
    for program in 1..=1000 {
        tables.allows.extend((0..100).map(|n| allow(program, 1 + n, TCP, PortMatch::One(1000 + n as u16))));
    }
    let start = Instant::now();
    dataplane.resync(&tables).unwrap();
    let load = start.elapsed();

    let mut times = Vec::new();
    let mut elements = 0;
    for n in 0..200_u32 {
        let mut next = PolicyTables { endpoints: BTreeMap::new(), ..PolicyTables::default() };
        let name = format!("cali{n:011x}");
        let old = tables.endpoints[&name].clone();
        let new = EndpointPrograms { ingress: Some(ProgramId(5000 + n)), ..old.clone() };
        next.endpoints.insert(name.clone(), new);
        next.allows.extend((0..20).map(|port| allow(5000 + n, 1, TCP, PortMatch::One(port))));
        let removed = PolicyTables { endpoints: [(name, old)].into(), ..Default::default() };
        let applied = dataplane.apply(&PolicyChanges { removed, added: next }).unwrap();
        elements = applied.elements;
        times.push(applied.duration);
    }
    times.sort();
    let start = Instant::now();
    dataplane.resync(&tables).unwrap();
    println!(
        "load {load:?}; change of {elements} elements: median {:?}, p99 {:?}; resync that repairs {:?}",
        times[100],
        times[198],
        start.elapsed()
    );
    assert!(times[100] < Duration::from_millis(10), "median {:?}", times[100]);
}
