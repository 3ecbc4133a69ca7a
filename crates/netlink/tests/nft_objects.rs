//! Each object that the nf_tables encoder writes, as `nft -j list` prints it; each in a network namespace of its own.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use margay_netlink::nft::*;

/// Runs the test on a thread with a fresh network namespace, which goes away with the thread.
fn in_namespace(test: impl FnOnce(&mut NftSocket) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: unshare has no memory effects; it moves this thread only.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "these tests need root: {}", std::io::Error::last_os_error());
        test(&mut NftSocket::open().unwrap());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// What nft prints with these arguments, without its version and without handles.
fn nft(arguments: &str) -> String {
    let output = Command::new("nft").args(arguments.split(' ')).output().expect("nft is installed");
    assert!(output.status.success(), "nft {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let mut text = String::from_utf8(output.stdout).unwrap().trim().to_string();
    while let Some(start) = text.find("\"handle\": ") {
        let end = start + text[start..].find([',', '}']).unwrap();
        // The handle is followed by more, or is the last member.
        let range = if text[end..].starts_with(", ") { start..end + 2 } else { start - 2..end };
        text.replace_range(range, "");
    }
    text
}

/// The objects of the table `inet margay` after its own entry.
fn listed() -> String {
    let text = nft("-j list table inet margay");
    let table = r#"{"table": {"family": "inet", "name": "margay"}}"#;
    let start = text.find(table).unwrap_or_else(|| panic!("no table in {text}"));
    text[start + table.len()..].trim_start_matches(", ").trim_end_matches("]}").to_string()
}

fn batch() -> Batch {
    let mut batch = Batch::new("margay");
    batch.add_table(None);
    batch
}

const REG: [Reg; 5] = [Reg(0), Reg(1), Reg(2), Reg(3), Reg(4)];

fn rule(exprs: Vec<Expr>) -> Rule {
    Rule { exprs, comment: None }
}

/// Adds a regular chain with the rule, and returns what nft prints as the rule's expressions.
fn rule_listed(socket: &mut NftSocket, mut batch: Batch, exprs: Vec<Expr>) -> String {
    batch.add_chain(&Chain { name: "c".into(), base: None });
    batch.add_rule("c", &rule(exprs.clone()));
    socket.commit(batch).unwrap();
    let rules = socket.rules("margay").unwrap();
    assert_eq!(rules.last().map(|(chain, _, rule)| (chain.as_str(), &rule.exprs)), Some(("c", &exprs)));
    nft("list ruleset");
    let text = listed();
    let start = text.rfind(r#""expr": "#).unwrap() + 8;
    text[start..].trim_end_matches("}}").to_string()
}

#[test]
fn a_table_has_its_comment() {
    in_namespace(|socket| {
        let mut batch = Batch::new("margay");
        batch.add_table(Some("kept by a test"));
        socket.commit(batch).unwrap();
        assert_eq!(socket.table("margay").unwrap().unwrap().comment.as_deref(), Some("kept by a test"));
        assert!(nft("list table inet margay").contains("comment \"kept by a test\""));
        let mut batch = Batch::new("margay");
        batch.delete_table();
        socket.commit(batch).unwrap();
        assert_eq!(socket.table("margay").unwrap(), None);
    });
}

#[test]
fn chains_are_listed_with_hook_priority_and_policy() {
    in_namespace(|socket| {
        let base = BaseChain { kind: "filter".into(), hook: Hook::Prerouting, priority: -300, accept: true };
        let drop = BaseChain { kind: "filter".into(), hook: Hook::Forward, priority: 0, accept: false };
        let chains = [
            Chain { name: "raw".into(), base: Some(base) },
            Chain { name: "fwd".into(), base: Some(drop) },
            Chain { name: "sub".into(), base: None },
        ];
        let mut batch = batch();
        chains.iter().for_each(|c| batch.add_chain(c));
        socket.commit(batch).unwrap();
        assert_eq!(
            listed(),
            concat!(
                r#"{"chain": {"family": "inet", "table": "margay", "name": "raw", "type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"}}, "#,
                r#"{"chain": {"family": "inet", "table": "margay", "name": "fwd", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}, "#,
                r#"{"chain": {"family": "inet", "table": "margay", "name": "sub"}}"#
            )
        );
        assert_eq!(socket.chains("margay").unwrap(), chains);
        let mut batch = Batch::new("margay");
        batch.delete_chain("sub");
        socket.commit(batch).unwrap();
        assert!(!listed().contains("sub"));
    });
}

/// Creates the set with the elements, compares the listing, reads it back, deletes the elements again.
fn check_set(set: Set, elements: Vec<Element>, kind: &'static str, shape: &'static str, elem: &'static str) {
    in_namespace(move |socket| {
        let mut batch = batch();
        batch.add_chain(&Chain { name: "target".into(), base: None });
        batch.add_set(&set);
        batch.add_elements("s", elements.clone());
        socket.commit(batch).unwrap();
        nft("list ruleset");
        let expected =
            format!(r#"{{"{kind}": {{"family": "inet", "name": "s", "table": "margay", {shape}, "elem": [{elem}]}}}}"#);
        assert!(listed().starts_with(&expected), "{}\nis not\n{expected}", listed());

        assert_eq!(socket.sets("margay").unwrap(), [("s".to_string(), set.signature())]);
        let sorted = |mut list: Vec<Element>| {
            list.sort();
            list
        };
        assert_eq!(sorted(socket.elements("margay", "s").unwrap()), sorted(elements.clone()));

        let mut batch = Batch::new("margay");
        batch.delete_elements("s", elements);
        socket.commit(batch).unwrap();
        assert_eq!(socket.elements("margay", "s").unwrap(), []);
        let mut batch = Batch::new("margay");
        batch.delete_set("s");
        socket.commit(batch).unwrap();
        assert_eq!(socket.sets("margay").unwrap(), []);
    });
}

#[test]
fn a_hash_set_of_interface_names() {
    check_set(
        Set::hash("s", &[Datatype::Ifname]),
        vec![Element::new(Key::single().ifname("cali0123456789a").build())],
        "set",
        r#""type": "ifname""#,
        r#""cali0123456789a""#,
    );
}

#[test]
fn a_concatenated_set_of_interface_and_address() {
    check_set(
        Set::hash("s", &[Datatype::Ifname, Datatype::Ipv6Addr]),
        vec![Element::new(Key::concat().ifname("cali1").addr("fd00::1".parse().unwrap()).build())],
        "set",
        r#""type": ["ifname", "ipv6_addr"]"#,
        r#"{"concat": ["cali1", "fd00::1"]}"#,
    );
}

#[test]
fn a_concatenated_set_of_mark_class_protocol_and_port() {
    check_set(
        Set::hash("s", &[Datatype::Mark, Datatype::ClassId, Datatype::InetProto, Datatype::InetService]),
        vec![Element::new(Key::concat().u32(7).u32(0x1_0005).proto(6).port(5432).build())],
        "set",
        r#""type": ["mark", "classid", "inet_proto", "inet_service"]"#,
        r#"{"concat": [7, "1:5", "tcp", 5432]}"#,
    );
}

#[test]
fn a_concatenated_set_with_a_range() {
    let key = |port| Key::concat().u32_be(7).u32_be(5).proto(17).port(port).build();
    check_set(
        Set::interval("s", &[Datatype::Mark, Datatype::ClassId, Datatype::InetProto, Datatype::InetService]),
        vec![Element::concat_range(key(80), key(90))],
        "set",
        r#""type": ["mark", "classid", "inet_proto", "inet_service"], "flags": ["interval"]"#,
        r#"{"concat": [7, "0:5", "udp", {"range": [80, 90]}]}"#,
    );
}

#[test]
fn a_map_from_address_to_class() {
    check_set(
        Set::hash("s", &[Datatype::Ipv4Addr]).with_data(&[Datatype::ClassId]),
        vec![Element::with_value(
            Key::single().addr("10.0.0.1".parse().unwrap()).build(),
            Key::single().u32(9).build(),
        )],
        "map",
        r#""type": "ipv4_addr", "map": "classid""#,
        r#"["10.0.0.1", "0:9"]"#,
    );
}

#[test]
fn an_interval_map_with_adjacent_ranges() {
    let range = |from: &str, to: &str, class| {
        let key = |text: &str| Key::single().addr(text.parse().unwrap()).build();
        Element::range(key(from), key(to), Some(ElementData::Value(Key::single().u32(class).build())))
    };
    check_set(
        Set::interval("s", &[Datatype::Ipv4Addr]).with_data(&[Datatype::ClassId]),
        range("10.0.0.0", "10.0.0.255", 1)
            .chain(range("10.0.1.0", "10.0.1.9", 2))
            .chain(range("224.0.0.0", "255.255.255.255", 3))
            .collect(),
        "map",
        r#""type": "ipv4_addr", "map": "classid", "flags": ["interval"]"#,
        concat!(
            r#"[{"prefix": {"addr": "10.0.0.0", "len": 24}}, "0:1"], "#,
            r#"[{"range": ["10.0.1.0", "10.0.1.9"]}, "0:2"], "#,
            r#"[{"prefix": {"addr": "224.0.0.0", "len": 3}}, "0:3"]"#
        ),
    );
}

#[test]
fn a_verdict_map() {
    check_set(
        Set::hash("s", &[Datatype::InetService]).with_verdicts(),
        vec![Element::with_verdict(Key::single().port(22).build(), Verdict::Jump("target".into()))],
        "map",
        r#""type": "inet_service", "map": "verdict""#,
        r#"[22, {"jump": {"target": "target"}}]"#,
    );
}

#[test]
fn matches_on_metadata() {
    in_namespace(|socket| {
        let exprs = vec![
            Expr::Meta { key: MetaKey::Iifname, dreg: REG[0] },
            Expr::Cmp { sreg: REG[0], op: CmpOp::Eq, data: b"cali".to_vec() },
            Expr::Meta { key: MetaKey::L4proto, dreg: REG[0] },
            Expr::Cmp { sreg: REG[0], op: CmpOp::Neq, data: vec![6] },
            Expr::Meta { key: MetaKey::Mark, dreg: REG[0] },
            Expr::Bitwise { sreg: REG[0], dreg: REG[0], mask: 0xff_u32.to_ne_bytes().to_vec(), xor: vec![0; 4] },
            Expr::Cmp { sreg: REG[0], op: CmpOp::Eq, data: 5_u32.to_ne_bytes().to_vec() },
            Expr::Verdict(Verdict::Accept),
        ];
        assert_eq!(
            rule_listed(socket, batch(), exprs),
            concat!(
                r#"[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "cali*"}}, "#,
                r#"{"match": {"op": "!=", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}, "#,
                r#"{"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}}, 255]}, "right": 5}}, {"accept": null}]"#
            )
        );
    });
}

#[test]
fn matches_on_payload_and_connection() {
    in_namespace(|socket| {
        let exprs = vec![
            Expr::Ct { key: CtKey::State, dreg: REG[0] },
            Expr::Bitwise {
                sreg: REG[0],
                dreg: REG[0],
                mask: (ct_state::ESTABLISHED | ct_state::RELATED).to_ne_bytes().to_vec(),
                xor: vec![0; 4],
            },
            Expr::Cmp { sreg: REG[0], op: CmpOp::Neq, data: vec![0; 4] },
            Expr::Meta { key: MetaKey::L4proto, dreg: REG[0] },
            Expr::Cmp { sreg: REG[0], op: CmpOp::Eq, data: vec![6] },
            Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: REG[0] },
            Expr::Range { sreg: REG[0], inverted: true, from: vec![0, 80], to: vec![0, 90] },
            Expr::Counter,
            Expr::Verdict(Verdict::Drop),
        ];
        assert_eq!(
            rule_listed(socket, batch(), exprs),
            concat!(
                r#"[{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, "#,
                r#"{"match": {"op": "!=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"range": [80, 90]}}}, "#,
                r#"{"counter": {"packets": 0, "bytes": 0}}, {"drop": null}]"#
            )
        );
    });
}

#[test]
fn lookups_in_sets_and_maps() {
    in_namespace(|socket| {
        let mut batch = batch();
        batch.add_set(&Set::hash("names", &[Datatype::Ifname]));
        batch.add_set(&Set::hash("marks", &[Datatype::Ifname]).with_data(&[Datatype::Mark]));
        batch.add_set(&Set::hash("both", &[Datatype::Mark, Datatype::InetProto]));
        batch.add_set(&Set::hash("verdicts", &[Datatype::Mark]).with_verdicts());
        let exprs = vec![
            Expr::Meta { key: MetaKey::Iifname, dreg: REG[0] },
            Expr::Lookup { set: "names".into(), sreg: REG[0], found: Found::Stop },
            Expr::Meta { key: MetaKey::Iifname, dreg: REG[0] },
            Expr::Lookup { set: "marks".into(), sreg: REG[0], found: Found::Data(REG[0]) },
            Expr::MetaSet { key: MetaKey::Mark, sreg: REG[0] },
            Expr::Meta { key: MetaKey::Mark, dreg: REG[0] },
            Expr::Meta { key: MetaKey::L4proto, dreg: REG[1] },
            Expr::Lookup { set: "both".into(), sreg: REG[0], found: Found::Continue },
            Expr::Meta { key: MetaKey::Mark, dreg: REG[0] },
            Expr::Lookup { set: "verdicts".into(), sreg: REG[0], found: Found::Verdict },
        ];
        assert_eq!(
            rule_listed(socket, batch, exprs),
            concat!(
                r#"[{"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "@names"}}, "#,
                r#"{"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"map": {"key": {"meta": {"key": "iifname"}}, "data": "@marks"}}}}, "#,
                r#"{"match": {"op": "==", "left": {"concat": [{"meta": {"key": "mark"}}, {"meta": {"key": "l4proto"}}]}, "right": "@both"}}, "#,
                r#"{"vmap": {"key": {"meta": {"key": "mark"}}, "data": "@verdicts"}}]"#
            )
        );
    });
}

#[test]
fn constants_jumps_and_comments() {
    in_namespace(|socket| {
        let mut batch = batch();
        batch.add_chain(&Chain { name: "other".into(), base: None });
        batch.add_chain(&Chain { name: "c".into(), base: None });
        let exprs = vec![
            Expr::Immediate { dreg: REG[0], data: 3_u32.to_ne_bytes().to_vec() },
            Expr::MetaSet { key: MetaKey::Mark, sreg: REG[0] },
            Expr::Verdict(Verdict::Goto("other".into())),
        ];
        let commented = Rule { exprs, comment: Some("why it is so".into()) };
        batch.add_rule("c", &commented);
        batch.add_rule("other", &rule(vec![Expr::Verdict(Verdict::Return)]));
        batch.add_rule("other", &rule(vec![Expr::Reject { kind: 2, code: 3 }]));
        socket.commit(batch).unwrap();
        let text = nft("list table inet margay");
        assert!(text.contains("meta mark set 0x00000003 goto other comment \"why it is so\""), "{text}");
        assert!(text.contains("\t\treturn\n\t\treject with icmpx admin-prohibited"), "{text}");
        let rules = socket.rules("margay").unwrap();
        let (chain, handle, read) = rules.iter().find(|(chain, ..)| chain == "c").unwrap();
        assert_eq!(*read, commented);

        let mut batch = Batch::new("margay");
        batch.delete_rule(chain, *handle);
        batch.flush_chain("other");
        socket.commit(batch).unwrap();
        assert_eq!(socket.rules("margay").unwrap(), []);
    });
}

#[test]
fn an_error_names_the_operation_and_nothing_happens() {
    in_namespace(|socket| {
        let mut first = batch();
        first.add_set(&Set::hash("allow", &[Datatype::InetService]));
        first.add_elements("allow", [Element::new(Key::single().port(1).build())]);
        socket.commit(first).unwrap();

        let mut batch = batch();
        batch.add_elements("allow", [2, 1, 3].map(|port| Element::new(Key::single().port(port).build())));
        let error = socket.commit(batch).unwrap_err();
        assert_eq!(error.to_string(), "nf_tables: add element 2 of 3 to set allow: File exists (os error 17)");
        assert!(error.is_errno(libc::EEXIST));
        assert_eq!(socket.elements("margay", "allow").unwrap().len(), 1);

        let mut batch = Batch::new("margay");
        batch.delete_elements("nowhere", [Element::new(vec![0, 1])]);
        let error = socket.commit(batch).unwrap_err();
        assert!(error.to_string().contains("from set nowhere: No such file or directory"), "{error}");
    });
}

#[test]
fn a_batch_bound_to_a_generation_fails_after_a_foreign_change() {
    in_namespace(|socket| {
        let generation = socket.generation().unwrap();
        let mut current = Batch::new("margay");
        current.require_generation(generation);
        current.add_table(None);
        socket.commit(current).unwrap();
        assert_ne!(socket.generation().unwrap(), generation);

        let mut stale = Batch::new("margay");
        stale.require_generation(generation);
        stale.delete_table();
        let error = socket.commit(stale).unwrap_err();
        assert!(matches!(error.kind, NftErrorKind::GenerationChanged), "{error}");
        assert!(socket.table("margay").unwrap().is_some());
    });
}

#[test]
fn three_hundred_thousand_elements_are_one_transaction() {
    in_namespace(|socket| {
        let before = socket.generation().unwrap();
        let mut batch = batch();
        batch.add_set(&Set::hash("s", &[Datatype::Mark, Datatype::ClassId]));
        batch.add_elements("s", (0..300_000).map(|n| Element::new(Key::concat().u32(n).u32(1).build())));
        assert!(batch.len() > 5 << 20);
        socket.commit(batch).unwrap();
        assert_eq!(socket.generation().unwrap(), before + 1);
        assert_eq!(socket.elements("margay", "s").unwrap().len(), 300_000);
    });
}
