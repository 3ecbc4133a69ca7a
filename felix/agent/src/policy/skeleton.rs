//! The fixed part of the table: sets without elements, chains and their rules.
//!
//! ```text
//! prerouting -300  anti_spoof   from a pod: interface and source address must be an endpoint's
//!      |
//!  conntrack
//!      |
//! input 0          to_node      established -> pass; BGP, but of peers, and router advertisements -> drop; -> from_pod
//! forward 0        forward      established -> pass; from a pod -> from_pod; to a pod -> to_pod;
//!                               to a service that nothing here serves -> drop
//!
//!   from_pod  no egress program -> pass   egress   peer's identity by daddr  -> allow_out  judged by program_out
//!   to_pod    no ingress program -> pass  ingress  peer's identity by saddr  -> allow_in   judged by program_in
//! ```
//!
//! A judged packet carries its peer's identity in `meta priority` from `egress` or `ingress` on, and loses it (set to
//! zero) before it goes on. Only packets that open a connection are touched so; the kernel overwrites the priority of
//! forwarded IPv4 packets by their TOS just before anyway. The program passes through `meta mark` within one rule, which
//! puts the packet's own mark back in the next step: other users' marks survive. Registers alone would do, but
//! `nft` 1.0.6 aborts on listing a concatenation of map lookups; written so, it lists the rules and reads them again.

use margay_netlink::nft::{
    BaseChain, Chain, CmpOp, CtKey, Datatype, Expr, Found, Hook, Key, MetaKey, PayloadBase, Reg, Rule, Set, Verdict,
    ct_state,
};

/// The table of the inet family that holds all of it.
pub const TABLE: &str = "margay";
/// What `nft list` shows beside the table.
pub(super) const TABLE_COMMENT: &str = "network policy, kept by margayd; changes by hand are undone";

pub(super) const ENDPOINTS: &str = "endpoints";
pub(super) const ENDPOINT_SOURCE4: &str = "endpoint_source4";
pub(super) const ENDPOINT_SOURCE6: &str = "endpoint_source6";
pub(super) const OPEN_OUT: &str = "open_out";
pub(super) const OPEN_IN: &str = "open_in";
pub(super) const PROGRAM_OUT: &str = "program_out";
pub(super) const PROGRAM_IN: &str = "program_in";
pub(super) const IDENTITY4: &str = "identity4";
pub(super) const IDENTITY6: &str = "identity6";
pub(super) const IDENTITY_RANGE4: &str = "identity_range4";
pub(super) const IDENTITY_RANGE6: &str = "identity_range6";
pub(super) const ALLOW_ALL: &str = "allow_all";
pub(super) const ALLOW_PROTO: &str = "allow_proto";
pub(super) const ALLOW_ONE: &str = "allow_one";
pub(super) const ALLOW_RANGE: &str = "allow_range";
pub(super) const NEIGHBOUR_DISCOVERY: &str = "neighbour_discovery";
pub(super) const BGP_PEERS: &str = "bgp_peers";
pub(super) const SERVICES4: &str = "services4";
pub(super) const SERVICES6: &str = "services6";

/// ICMPv6 types that a pod and its node exchange on their link: MLD (RFC 2710, 3810) and neighbour discovery (RFC
/// 4861) but for what only routers send.
pub(super) const NEIGHBOUR_DISCOVERY_TYPES: [u8; 7] = [130, 131, 132, 133, 135, 136, 143];
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;

const POD_INTERFACE_PREFIX: &[u8] = b"cali";
const BGP_PORT: u16 = 179;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

/// The sets and maps, each before the rules that use it.
pub(super) fn sets() -> Vec<Set> {
    use Datatype::*;
    let icmpv6_type = Other { number: 29, len: 1 };
    vec![
        Set::hash(ENDPOINTS, &[Ifname]),
        Set::hash(ENDPOINT_SOURCE4, &[Ifname, Ipv4Addr]),
        Set::hash(ENDPOINT_SOURCE6, &[Ifname, Ipv6Addr]),
        Set::hash(OPEN_OUT, &[Ifname]),
        Set::hash(OPEN_IN, &[Ifname]),
        Set::hash(PROGRAM_OUT, &[Ifname]).with_data(&[Mark]),
        Set::hash(PROGRAM_IN, &[Ifname]).with_data(&[Mark]),
        Set::hash(IDENTITY4, &[Ipv4Addr]).with_data(&[ClassId]),
        Set::hash(IDENTITY6, &[Ipv6Addr]).with_data(&[ClassId]),
        Set::interval(IDENTITY_RANGE4, &[Ipv4Addr]).with_data(&[ClassId]),
        Set::interval(IDENTITY_RANGE6, &[Ipv6Addr]).with_data(&[ClassId]),
        Set::hash(ALLOW_ALL, &[Mark, ClassId]),
        Set::hash(ALLOW_PROTO, &[Mark, ClassId, InetProto]),
        Set::hash(ALLOW_ONE, &[Mark, ClassId, InetProto, InetService]),
        Set::interval(ALLOW_RANGE, &[Mark, ClassId, InetProto, InetService]),
        Set::hash(NEIGHBOUR_DISCOVERY, &[icmpv6_type]),
        Set::hash(BGP_PEERS, &[Ifname]),
        Set::interval(SERVICES4, &[Ipv4Addr]),
        Set::interval(SERVICES6, &[Ipv6Addr]),
    ]
}

/// The chains with their rules, a chain that is jumped to before the one that jumps.
pub(super) fn chains() -> Vec<(Chain, Vec<Rule>)> {
    let mut chains = Vec::new();
    for side in [Side::OUT, Side::IN] {
        chains.push((regular(side.allow_chain), allow_rules(&side)));
        chains.push((regular(side.identity_chain), identity_rules(&side)));
        chains.push((regular(side.entry_chain), entry_rules(&side)));
    }
    chains.push((base("anti_spoof", Hook::Prerouting, -300), anti_spoof_rules()));
    chains.push((base("to_node", Hook::Input, 0), to_node_rules()));
    chains.push((base("forward", Hook::Forward, 0), forward_rules()));
    chains
}

/// What differs between the two directions.
struct Side {
    entry_chain: &'static str,
    identity_chain: &'static str,
    allow_chain: &'static str,
    /// The interface whose pod is judged.
    interface: MetaKey,
    open: &'static str,
    program: &'static str,
    /// Offsets of the peer's address in the IPv4 and IPv6 header.
    peer4: u32,
    peer6: u32,
    drop_comment: &'static str,
}

impl Side {
    const OUT: Side = Side {
        entry_chain: "from_pod",
        identity_chain: "egress",
        allow_chain: "allow_out",
        interface: MetaKey::Iifname,
        open: OPEN_OUT,
        program: PROGRAM_OUT,
        peer4: 16,
        peer6: 24,
        drop_comment: "no policy lets the pod send it, or the interface is unknown",
    };
    const IN: Side = Side {
        entry_chain: "to_pod",
        identity_chain: "ingress",
        allow_chain: "allow_in",
        interface: MetaKey::Oifname,
        open: OPEN_IN,
        program: PROGRAM_IN,
        peer4: 12,
        peer6: 8,
        drop_comment: "no policy lets the pod receive it, or the interface is unknown",
    };
}

fn anti_spoof_rules() -> Vec<Rule> {
    let source = |family, offset, len, set| {
        steps([
            nfproto(family),
            vec![load(MetaKey::Iifname, R0), network(offset, len, R4), find(set, R0), Expr::Verdict(Verdict::Accept)],
        ])
    };
    let link_local = |source: Vec<Expr>| {
        steps([
            vec![load(MetaKey::Iifname, R0), find(ENDPOINTS, R0)],
            nfproto(NFPROTO_IPV6),
            source,
            neighbour_discovery(),
            vec![Expr::Verdict(Verdict::Accept)],
        ])
    };
    let prefix = vec![
        network(8, 16, R0),
        Expr::Bitwise { sreg: R0, dreg: R0, mask: link_local_mask(), xor: vec![0; 16] },
        Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: address("fe80::") },
    ];
    let unspecified = vec![network(8, 16, R0), Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: address("::") }];
    vec![
        steps([not_from_pod(), vec![Expr::Verdict(Verdict::Accept)]]),
        source(NFPROTO_IPV4, 12, 4, ENDPOINT_SOURCE4),
        source(NFPROTO_IPV6, 8, 16, ENDPOINT_SOURCE6),
        link_local(prefix),
        link_local(unspecified),
        drop_rule(vec![], "the source address is not the pod's own, or the interface is unknown"),
    ]
}

fn to_node_rules() -> Vec<Rule> {
    let icmpv6 = |kind: u8| {
        steps_of([l4proto(ICMPV6), vec![transport(0, 1, R0), Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: vec![kind] }]])
    };
    let bgp = steps_of([
        l4proto(TCP),
        vec![transport(2, 2, R0), Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: BGP_PORT.to_be_bytes().to_vec() }],
    ]);
    vec![
        steps([not_from_pod(), vec![Expr::Verdict(Verdict::Accept)]]),
        established(),
        steps([neighbour_discovery(), vec![Expr::Verdict(Verdict::Accept)]]),
        drop_rule(icmpv6(ROUTER_ADVERTISEMENT), "pods are no routers"),
        drop_rule(icmpv6(REDIRECT), "pods are no routers"),
        steps([
            vec![load(MetaKey::Iifname, R0), find(BGP_PEERS, R0)],
            bgp.clone(),
            vec![Expr::Verdict(Verdict::Accept)],
        ]),
        drop_rule(bgp, "the pod is no BGP peer"),
        steps([vec![Expr::Verdict(Verdict::Jump(Side::OUT.entry_chain.into()))]]),
    ]
}

fn forward_rules() -> Vec<Rule> {
    let jump = |side: &Side| {
        steps([vec![
            load(side.interface, R0),
            Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: POD_INTERFACE_PREFIX.to_vec() },
            Expr::Verdict(Verdict::Jump(side.entry_chain.into())),
        ]])
    };
    // What a proxy sends on has its endpoint's address by then (a translation comes before the forward hook), and what it takes
    // itself, at an address of this host, is not forwarded: the local table comes before every other.
    let service = |family, offset, len, set| {
        let to_other = vec![
            load(MetaKey::Oifname, R0),
            Expr::Cmp { sreg: R0, op: CmpOp::Neq, data: POD_INTERFACE_PREFIX.to_vec() },
        ];
        let to_service = vec![network(offset, len, R0), find(set, R0)];
        drop_rule(steps_of([nfproto(family), to_other, to_service]), "nothing here serves it, and it would come back")
    };
    vec![
        established(),
        jump(&Side::OUT),
        jump(&Side::IN),
        service(NFPROTO_IPV4, 16, 4, SERVICES4),
        service(NFPROTO_IPV6, 24, 16, SERVICES6),
    ]
}

fn entry_rules(side: &Side) -> Vec<Rule> {
    vec![
        drop_rule(ct_state_is(ct_state::INVALID), "belongs to no connection"),
        steps([vec![load(side.interface, R0), find(side.open, R0), Expr::Verdict(Verdict::Return)]]),
        steps([vec![Expr::Verdict(Verdict::Jump(side.identity_chain.into()))]]),
        steps([set_identity_to_anyone()]),
    ]
}

fn identity_rules(side: &Side) -> Vec<Rule> {
    let allow = Expr::Verdict(Verdict::Goto(side.allow_chain.into()));
    let identity = |family, offset, len, map: &str, then: Option<Expr>| {
        let take = vec![
            network(offset, len, R0),
            Expr::Lookup { set: map.into(), sreg: R0, found: Found::Data(R0) },
            Expr::MetaSet { key: MetaKey::Priority, sreg: R0 },
        ];
        steps([nfproto(family), take, then.into_iter().collect()])
    };
    vec![
        identity(NFPROTO_IPV4, side.peer4, 4, IDENTITY4, Some(allow.clone())),
        identity(NFPROTO_IPV6, side.peer6, 16, IDENTITY6, Some(allow.clone())),
        steps([set_identity_to_anyone()]),
        identity(NFPROTO_IPV4, side.peer4, 4, IDENTITY_RANGE4, None),
        identity(NFPROTO_IPV6, side.peer6, 16, IDENTITY_RANGE6, None),
        steps([vec![allow]]),
    ]
}

/// Looks the connection up with its peer's identity, then with that of anyone, which is zero.
fn allow_rules(side: &Side) -> Vec<Rule> {
    let lookup = |set: &str, extra: Vec<Expr>, swapped: bool| {
        // The program goes through the mark in between, and the mark comes back from R8.
        let mut exprs = extra;
        exprs.extend([
            load(MetaKey::Mark, R8),
            load(side.interface, R4),
            Expr::Lookup { set: side.program.into(), sreg: R4, found: Found::Data(R4) },
            Expr::MetaSet { key: MetaKey::Mark, sreg: R4 },
            load(MetaKey::Mark, R0),
            Expr::MetaSet { key: MetaKey::Mark, sreg: R8 },
            load(MetaKey::Priority, R1),
        ]);
        if swapped {
            exprs.extend([R0, R1].map(|reg| Expr::Byteorder { sreg: reg, dreg: reg }));
        }
        exprs.extend([find(set, R0), Expr::Verdict(Verdict::Return)]);
        steps([exprs])
    };
    let proto = || vec![load(MetaKey::L4proto, R2)];
    let proto_port = || vec![load(MetaKey::L4proto, R2), transport(2, 2, R3)];
    let lookups = || {
        [
            lookup(ALLOW_ONE, proto_port(), false),
            lookup(ALLOW_ALL, vec![], false),
            lookup(ALLOW_PROTO, proto(), false),
            lookup(ALLOW_RANGE, proto_port(), true),
        ]
    };
    let mut rules = lookups().to_vec();
    rules.push(steps([set_identity_to_anyone()]));
    rules.extend(lookups());
    rules.push(drop_rule(vec![], side.drop_comment));
    rules
}

const R0: Reg = Reg(0);
const R1: Reg = Reg(1);
const R2: Reg = Reg(2);
const R3: Reg = Reg(3);
const R4: Reg = Reg(4);
const R8: Reg = Reg(8);

fn base(name: &str, hook: Hook, priority: i32) -> Chain {
    Chain { name: name.into(), base: Some(BaseChain { kind: "filter".into(), hook, priority, accept: true }) }
}

fn regular(name: &str) -> Chain {
    Chain { name: name.into(), base: None }
}

fn steps_of<const N: usize>(parts: [Vec<Expr>; N]) -> Vec<Expr> {
    parts.into_iter().flatten().collect()
}

fn steps<const N: usize>(parts: [Vec<Expr>; N]) -> Rule {
    Rule { exprs: steps_of(parts), comment: None }
}

fn drop_rule(matches: Vec<Expr>, comment: &str) -> Rule {
    let exprs = steps_of([matches, vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]]);
    Rule { exprs, comment: Some(comment.into()) }
}

fn load(key: MetaKey, dreg: Reg) -> Expr {
    Expr::Meta { key, dreg }
}

fn network(offset: u32, len: u32, dreg: Reg) -> Expr {
    Expr::Payload { base: PayloadBase::Network, offset, len, dreg }
}

fn transport(offset: u32, len: u32, dreg: Reg) -> Expr {
    Expr::Payload { base: PayloadBase::Transport, offset, len, dreg }
}

fn find(set: &str, sreg: Reg) -> Expr {
    Expr::Lookup { set: set.into(), sreg, found: Found::Continue }
}

fn nfproto(family: u8) -> Vec<Expr> {
    vec![load(MetaKey::Nfproto, R0), Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: vec![family] }]
}

fn l4proto(number: u8) -> Vec<Expr> {
    vec![load(MetaKey::L4proto, R0), Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: vec![number] }]
}

fn not_from_pod() -> Vec<Expr> {
    vec![load(MetaKey::Iifname, R0), Expr::Cmp { sreg: R0, op: CmpOp::Neq, data: POD_INTERFACE_PREFIX.to_vec() }]
}

fn neighbour_discovery() -> Vec<Expr> {
    steps_of([l4proto(ICMPV6), vec![transport(0, 1, R0), find(NEIGHBOUR_DISCOVERY, R0)]])
}

fn established() -> Rule {
    steps([ct_state_is(ct_state::ESTABLISHED | ct_state::RELATED), vec![Expr::Verdict(Verdict::Accept)]])
}

fn ct_state_is(bits: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key: CtKey::State, dreg: R0 },
        Expr::Bitwise { sreg: R0, dreg: R0, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::Cmp { sreg: R0, op: CmpOp::Neq, data: vec![0; 4] },
    ]
}

fn set_identity_to_anyone() -> Vec<Expr> {
    vec![Expr::Immediate { dreg: R0, data: vec![0; 4] }, Expr::MetaSet { key: MetaKey::Priority, sreg: R0 }]
}

fn link_local_mask() -> Vec<u8> {
    address("ffc0::")
}

fn address(text: &str) -> Vec<u8> {
    Key::single().ipv6(text.parse().expect("it is a constant of this file")).build()
}
