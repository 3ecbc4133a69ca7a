//! What passes between pods, their node and the outside, judged by a real kernel.
#![allow(clippy::unwrap_used)]

mod policy_support;

use margay_felix_core::policy::*;
use policy_support::*;

const TCP: Option<u8> = Some(6);
const UDP: Option<u8> = Some(17);

#[test]
fn a_pod_without_a_program_sends_and_receives_everything() {
    let node = Node::new();
    serve(&node.b, &[5432]);
    serve(&node.outside, &[5432]);
    serve(&node.host, &[5432]);
    node.dataplane().resync(&open_tables()).unwrap();
    for to in [B4, B6, OUTSIDE4, OUTSIDE6, NODE4, NODE6] {
        passes(&node.a, to, 5432);
        assert!(ping(&node.a, to, "5"), "{to}");
    }
    for to in [B4, B6] {
        passes(&node.outside, to, 5432);
        passes(&node.host, to, 5432);
    }
}

#[test]
fn an_isolated_pod_receives_nothing_silently_but_from_its_node() {
    let node = Node::new();
    serve(&node.b, &[5432]);
    serve(&node.outside, &[5432]);
    node.dataplane().resync(&isolated_b()).unwrap();
    for to in [B4, B6] {
        dropped(&node.a, to, 5432);
        dropped(&node.outside, to, 5432);
        assert!(!ping(&node.a, to, "0.3"));
        passes(&node.host, to, 5432);
    }
    assert!(drop_count(&node, "allow_in") > 0);
    passes(&node.b, OUTSIDE4, 5432);
}

#[test]
fn an_allowed_port_passes_for_its_peer_protocol_and_port_alone() {
    let node = Node::new();
    serve(&node.b, &[5432, 5433]);
    let mut tables = isolated_b();
    tables.identities = [(ip(A4), IdentityId(7)), (ip(A6), IdentityId(7))].into();
    tables.allows.insert(allow(1, 7, TCP, PortMatch::One(5432)));
    node.dataplane().resync(&tables).unwrap();
    for to in [B4, B6] {
        assert!(tcp(&node.a, to, 5432, PATIENCE).is_some());
        assert!(!udp(&node.a, to, 5432, SILENCE));
        dropped(&node.a, to, 5433);
        dropped(&node.outside, to, 5432);
    }
}

#[test]
fn a_rule_without_peers_lets_anyone_in() {
    let node = Node::new();
    serve(&node.b, &[53, 54]);
    let mut tables = isolated_b();
    tables.identities = [(ip(A4), IdentityId(7))].into();
    tables.allows.insert(allow(1, 0, UDP, PortMatch::One(53)));
    node.dataplane().resync(&tables).unwrap();
    for from in [&node.a, &node.outside] {
        for to in [B4, B6] {
            assert!(udp(from, to, 53, PATIENCE));
            assert!(!udp(from, to, 54, SILENCE));
            assert!(tcp(from, to, 53, SILENCE).is_none());
        }
    }
}

#[test]
fn port_ranges_are_inclusive_and_may_overlap() {
    let node = Node::new();
    serve(&node.b, &[79, 80, 95, 100, 101]);
    let mut tables = isolated_b();
    tables.identities = [(ip(A4), IdentityId(7))].into();
    tables.allows.insert(allow(1, 7, TCP, PortMatch::Range(80, 90)));
    tables.allows.insert(allow(1, 7, TCP, PortMatch::Range(85, 100)));
    tables.allows.insert(allow(1, 0, UDP, PortMatch::Range(100, 65535)));
    node.dataplane().resync(&tables).unwrap();
    for (port, to_tcp, to_udp) in
        [(79, false, false), (80, true, false), (95, true, false), (100, true, true), (101, false, true)]
    {
        let wait = |expected| if expected { PATIENCE } else { SILENCE };
        assert_eq!(tcp(&node.a, B4, port, wait(to_tcp)).is_some(), to_tcp, "{port}");
        assert_eq!(udp(&node.a, B4, port, wait(to_udp)), to_udp, "{port}");
    }
}

#[test]
fn an_identity_of_its_own_wins_over_the_range_it_lies_in() {
    let node = Node::new();
    serve(&node.b, &[5432]);
    let mut tables = isolated_b();
    tables.ranges = [
        (ip("192.0.2.0"), (ip("192.0.2.255"), IdentityId(9))),
        (ip("2001:db8::"), (ip("2001:db8::ffff"), IdentityId(9))),
    ]
    .into();
    tables.allows.insert(allow(1, 9, None, PortMatch::Any));
    let mut dataplane = node.dataplane();
    dataplane.resync(&tables).unwrap();
    for to in [B4, B6] {
        passes(&node.outside, to, 5432);
        assert!(ping(&node.outside, to, "5"));
        dropped(&node.a, to, 5432);
    }
    let added = PolicyTables {
        identities: [(ip(OUTSIDE4), IdentityId(10)), (ip(OUTSIDE6), IdentityId(10))].into(),
        ..Default::default()
    };
    dataplane.apply(&PolicyChanges { removed: PolicyTables::default(), added }).unwrap();
    for to in [B4, B6] {
        dropped(&node.outside, to, 5432);
    }
}

#[test]
fn a_protocol_without_ports_passes_by_its_number() {
    let node = Node::new();
    serve(&node.b, &[5432]);
    let mut tables = isolated_b();
    tables.allows.insert(allow(1, 0, Some(1), PortMatch::Any));
    tables.allows.insert(allow(1, 0, Some(58), PortMatch::Any));
    node.dataplane().resync(&tables).unwrap();
    for to in [B4, B6] {
        assert!(ping(&node.a, to, "5"));
        dropped(&node.a, to, 5432);
    }
}

#[test]
fn between_pods_of_a_node_both_programs_must_let_it_pass() {
    let node = Node::new();
    serve(&node.b, &[5432]);
    let mut tables = isolated_b();
    tables.endpoints.get_mut(A).unwrap().egress = Some(ProgramId(2));
    tables.identities = [(ip(A4), IdentityId(7)), (ip(B4), IdentityId(8))].into();
    let ingress = allow(1, 7, TCP, PortMatch::One(5432));
    let egress = allow(2, 8, TCP, PortMatch::Range(5000, 6000));
    let mut dataplane = node.dataplane();
    for (allows, expected) in
        [(vec![], false), (vec![ingress], false), (vec![egress], false), (vec![ingress, egress], true)]
    {
        tables.allows = allows.into_iter().collect();
        dataplane.resync(&tables).unwrap();
        let wait = if expected { PATIENCE } else { SILENCE };
        assert_eq!(tcp(&node.a, B4, 5432, wait).is_some(), expected);
    }
}

#[test]
fn an_egress_program_also_judges_what_goes_to_the_pods_own_node() {
    let node = Node::new();
    serve(&node.host, &[5432]);
    let mut tables = open_tables();
    tables.endpoints.get_mut(A).unwrap().egress = Some(ProgramId(2));
    let mut dataplane = node.dataplane();
    dataplane.resync(&tables).unwrap();
    for to in [NODE4, NODE6] {
        dropped(&node.a, to, 5432);
        assert!(!ping(&node.a, to, "0.3"));
        passes(&node.b, to, 5432);
    }
    tables.ranges = [(ip(NODE4), (ip(NODE4), IdentityId(3)))].into();
    tables.allows.insert(allow(2, 3, TCP, PortMatch::One(5432)));
    dataplane.resync(&tables).unwrap();
    assert!(tcp(&node.a, NODE4, 5432, PATIENCE).is_some());
    assert!(tcp(&node.a, NODE6, 5432, SILENCE).is_none());
}

#[test]
fn a_pod_does_not_reach_the_bgp_port_of_its_node() {
    let node = Node::new();
    serve(&node.host, &[179, 180]);
    node.dataplane().resync(&open_tables()).unwrap();
    for to in [NODE4, NODE6] {
        assert!(tcp(&node.a, to, 179, SILENCE).is_none());
        assert!(tcp(&node.a, to, 180, PATIENCE).is_some());
    }
    assert!(tcp(&node.outside, NODE4, 179, PATIENCE).is_some());
    assert!(drop_count(&node, "to_node") > 0);
}

#[test]
fn a_pod_sends_from_its_own_addresses_only() {
    let node = Node::new();
    serve(&node.outside, &[5432]);
    let mut dataplane = node.dataplane();
    dataplane.resync(&open_tables()).unwrap();
    passes(&node.a, OUTSIDE4, 5432);

    // The address of the other pod, taken by this one.
    node.a.exec("ip addr add 10.65.0.2/32 dev eth0");
    node.a.exec("ip addr del 10.65.0.1/32 dev eth0");
    node.a.exec("ip -6 addr add fd65::2/128 dev eth0 nodad");
    node.a.exec("ip -6 addr del fd65::1/128 dev eth0");
    let before = drop_count(&node, "anti_spoof");
    dropped(&node.a, OUTSIDE4, 5432);
    dropped(&node.a, OUTSIDE6, 5432);
    assert!(drop_count(&node, "anti_spoof") >= before + 4);
}

#[test]
fn an_established_connection_stops_with_its_pods_address() {
    let node = Node::new();
    serve(&node.outside, &[5432]);
    let mut dataplane = node.dataplane();
    let tables = open_tables();
    dataplane.resync(&tables).unwrap();
    let mut stream = tcp(&node.a, OUTSIDE4, 5432, PATIENCE).unwrap();
    assert!(echoes(&mut stream, PATIENCE));
    let mut after = tables;
    after.endpoints.get_mut(A).unwrap().addresses.remove(&ip(A4));
    dataplane.resync(&after).unwrap();
    assert!(!echoes(&mut stream, SILENCE));
}

#[test]
fn an_established_connection_survives_a_change_of_policy() {
    let node = Node::new();
    serve(&node.b, &[5432]);
    let mut dataplane = node.dataplane();
    dataplane.resync(&open_tables()).unwrap();
    let mut stream = tcp(&node.a, B4, 5432, PATIENCE).unwrap();
    assert!(echoes(&mut stream, PATIENCE));
    dataplane.resync(&isolated_b()).unwrap();
    assert!(echoes(&mut stream, PATIENCE));
    dropped(&node.a, B4, 5432);
}

#[test]
fn an_unknown_pod_interface_is_cut_off_both_ways() {
    let node = Node::new();
    serve(&node.a, &[5432]);
    serve(&node.b, &[5432]);
    serve(&node.host, &[5432]);
    let mut tables = open_tables();
    tables.endpoints.remove(B);
    let mut dataplane = node.dataplane();
    for empty in [false, true] {
        if empty {
            dataplane.remove_all().unwrap();
            dataplane.ensure_skeleton().unwrap();
        } else {
            dataplane.resync(&tables).unwrap();
            passes(&node.outside, A4, 5432);
        }
        for to in [B4, B6] {
            dropped(&node.outside, to, 5432);
        }
        dropped(&node.b, NODE4, 5432);
        dropped(&node.b, OUTSIDE4, 5432);
    }
    dataplane.remove_all().unwrap();
    passes(&node.outside, B4, 5432);
}

#[test]
fn an_isolated_pod_still_finds_its_ipv6_gateway_and_sends_no_router_advertisements() {
    let node = Node::new();
    serve(&node.outside, &[5432]);
    let mut tables = open_tables();
    tables.endpoints.insert(
        A.into(),
        EndpointPrograms { ingress: Some(ProgramId(1)), egress: Some(ProgramId(2)), ..tables.endpoints[A].clone() },
    );
    tables.allows.insert(allow(2, 0, TCP, PortMatch::One(5432)));
    node.dataplane().resync(&tables).unwrap();
    node.a.exec("ip -6 neigh flush dev eth0");
    assert!(tcp(&node.a, OUTSIDE6, 5432, PATIENCE).is_some());
    assert!(!ping(&node.a, "fe80::1%eth0", "0.3"));

    let before = drop_count(&node, "to_node") + drop_count(&node, "anti_spoof");
    node.a.run(|| {
        let kind = socket2::Type::RAW;
        let socket = socket2::Socket::new(socket2::Domain::IPV6, kind, Some(socket2::Protocol::ICMPV6)).unwrap();
        socket.set_unicast_hops_v6(255).unwrap();
        let mut advertisement = [0; 16];
        advertisement[0] = 134;
        let to = std::net::SocketAddrV6::new(NODE6.parse().unwrap(), 0, 0, 0);
        socket.send_to(&advertisement, &to.into()).unwrap();
    });
    assert!(drop_count(&node, "to_node") + drop_count(&node, "anti_spoof") > before);
}

#[test]
fn sctp_is_judged_by_its_port() {
    let node = Node::new();
    let mut tables = isolated_b();
    tables.allows.insert(allow(1, 0, Some(132), PortMatch::One(3868)));
    node.dataplane().resync(&tables).unwrap();
    let receiver = node.b.run(|| {
        let kind = socket2::Type::RAW;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, Some(socket2::Protocol::from(132))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    // The forbidden one first: were it let through, it would arrive first.
    node.a.run(|| {
        let kind = socket2::Type::RAW;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, Some(socket2::Protocol::from(132))).unwrap();
        for port in [3869, 3868] {
            let to = std::net::SocketAddrV4::new(B4.parse().unwrap(), 0);
            socket.send_to(&sctp_init(40_000, port), &to.into()).unwrap();
        }
    });
    let mut packet = [0; 128];
    let len = std::io::Read::read(&mut &receiver, &mut packet).unwrap();
    assert_eq!(packet[20..len][2..4], 3868_u16.to_be_bytes());
}

/// An SCTP packet with an INIT chunk (RFC 9260 section 3.3.2).
fn sctp_init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend([0, 0, 0, 1, 0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    let crc = !packet.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    packet
}

#[test]
fn the_packet_mark_of_others_survives_the_judgement() {
    let node = Node::new();
    serve(&node.outside, &[5432]);
    let mut tables = open_tables();
    tables.endpoints.get_mut(A).unwrap().egress = Some(ProgramId(0x1234_5678));
    tables.allows.insert(allow(0x1234_5678, 0, TCP, PortMatch::Range(5000, 6000)));
    node.dataplane().resync(&tables).unwrap();
    node.host.exec("nft add table ip other");
    node.host.exec("nft add chain ip other pre { type filter hook prerouting priority -150 ; }");
    node.host.exec("nft add rule ip other pre iifname cali* meta mark set 0x4000");
    node.host.exec("nft add chain ip other post { type filter hook postrouting priority 0 ; }");
    node.host.exec("nft add rule ip other post ct state new meta mark 0x4000 meta priority 0 counter");
    assert!(tcp(&node.a, OUTSIDE4, 5432, PATIENCE).is_some());
    let text = node.host.exec("nft list chain ip other post");
    assert!(text.contains("counter packets 1 "), "{text}");
}
