//! The fabric without Margay: BIRD in the place of the node's daemon announces what a node announces.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use margay_lab::bird::{Fault, session_name};
use margay_lab::checks::RouteMonitor;
use margay_lab::checks::routes::{KernelRoute, kernel_routes, no_node_gives_transit};
use margay_lab::traffic::{Answer, Capture, ECHO_PORT, Flow, Servers, ping, tcp};
use margay_lab::{
    DatastoreKind, Families, Lab, LabOptions, Netns, NodeSpec, Process, Topology, isolation, until, wiring,
};
use margay_net::{Cidr, Family};

const SECOND: Duration = Duration::from_secs(1);

/// The block that a node announces, and an address in it that the node answers for.
fn block(node: &NodeSpec, family: Family) -> (Cidr, std::net::IpAddr) {
    let size = if family == Family::V4 { 26 } else { 122 };
    let first = Topology::pool(family).nth(64 * u128::from(10 * node.rack + node.index)).unwrap();
    let block = Cidr::new(first, size).unwrap();
    (block, block.nth(1).unwrap())
}

fn speaker(topology: &Topology, node: &NodeSpec) -> Result<Process> {
    let netns = Netns::open(&node.name)?;
    for key in ["net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy"] {
        netns.sysctl(key, "1")?;
    }
    for key in ["net.ipv4.conf.all.ignore_routes_with_linkdown", "net.ipv4.ip_forward"] {
        netns.sysctl(key, "1")?;
    }
    let mut text = format!("log stderr all; router id 10.100.{}.{};\nprotocol device {{}}\n", node.rack, node.index);
    for &family in topology.families.each() {
        let (block, address) = block(node, family);
        netns.ip(&format!("addr add {address}/{} dev lo", family.bits()))?;
        let own = Cidr::host(node.address(family));
        writeln!(text, "protocol static own_{family} {{ {family}; route {block} blackhole; route {own} blackhole; }}")?;
        writeln!(
            text,
            "protocol kernel {{ merge paths on; {family} {{ import none; export where source = RTS_BGP; }}; }}"
        )?;
        for tor in topology.tors_of(node.rack) {
            writeln!(
                text,
                "protocol bgp {{ local {} as {}; neighbor {} as {}; interface \"{}\"; direct; check link on;
                 connect delay time 1; error wait time 1, 2; hold time 9; graceful restart on;
                 {family} {{ import all; export where source = RTS_STATIC; next hop self; }}; }}",
                node.address(family),
                node.asn,
                tor.address(family),
                tor.asn,
                wiring::uplink(&tor)
            )?;
        }
    }
    let dir = speaker_dir(node);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("bird.conf"), text)?;
    launch(node, &[])
}

fn speaker_dir(node: &NodeSpec) -> PathBuf {
    Path::new(isolation::LAB_DIR).join(format!("speaker-{}", node.name))
}

fn launch(node: &NodeSpec, options: &[&str]) -> Result<Process> {
    let dir = speaker_dir(node);
    let mut command = Command::new("bird");
    command.args(["-f", "-c"]).arg(dir.join("bird.conf")).arg("-s").arg(dir.join("ctl")).args(options);
    Process::start("speaker", &Netns::open(&node.name)?, &mut command, &dir.join("log"))
}

/// A fabric whose nodes speak BGP.
fn fabric(topology: &Topology, fault: Option<Fault>) -> Result<(Lab, Vec<Process>)> {
    let lab = Lab::fabric(LabOptions::new(topology.clone()).fault(fault))?;
    let speakers = topology.nodes().iter().map(|node| speaker(topology, node)).collect::<Result<Vec<_>>>()?;
    lab.wait_for_sessions(20 * SECOND)?;
    Ok((lab, speakers))
}

fn carries(topology: &Topology) -> Result<()> {
    let (lab, _speakers) = fabric(topology, None)?;
    for &family in topology.families.each() {
        for from in topology.nodes() {
            for to in topology.nodes().iter().filter(|to| to.name != from.name) {
                let (address, netns) = (block(to, family).1, Netns::open(&from.name)?);
                until(10 * SECOND, &format!("{} reaches {address}", from.name), || {
                    let answer = ping(&netns, address, SECOND)?;
                    ensure!(answer.reached(), "{answer}");
                    let routes = kernel_routes(&netns, family)?;
                    let route = routes.iter().find(|route| route.prefix == block(to, family).0);
                    ensure!(route.is_some_and(|route| route.next_hops.len() == 2), "{route:?}");
                    Ok(())
                })?;
            }
        }
    }
    no_node_gives_transit(&lab)?;
    Ok(())
}

#[test]
fn the_fabric_carries_ipv4() {
    isolation::isolated("the_fabric_carries_ipv4", || carries(&Topology::default()));
}

#[test]
fn the_fabric_carries_both_families() {
    isolation::isolated("the_fabric_carries_both_families", || {
        carries(&Topology::default().with_families(Families::Dual))
    });
}

#[test]
fn one_rack_without_spines_carries_ipv6() {
    isolation::isolated("one_rack_without_spines_carries_ipv6", || {
        carries(&Topology::one_rack().with_families(Families::V6))
    });
}

#[test]
fn a_node_is_seen_by_its_own_address_whichever_uplink_it_uses() {
    isolation::isolated("a_node_is_seen_by_its_own_address_whichever_uplink_it_uses", || {
        let topology = Topology::default();
        let (_lab, _speakers) = fabric(&topology, None)?;
        let nodes = topology.nodes();
        let (from, to) = (&nodes[0], &nodes[3]);
        let _servers = Servers::start(&Netns::open(&to.name)?, &[ECHO_PORT], &[])?;
        let netns = Netns::open(&from.name)?;
        for interface in ["uplink1", "uplink2"] {
            netns.ip(&format!("link set {interface} down"))?;
            until(10 * SECOND, &format!("reached without {interface}"), || {
                let answer = tcp(&netns, SocketAddr::new(to.address(Family::V4), ECHO_PORT), SECOND)?;
                ensure!(answer == Answer::Reached(Some(from.address(Family::V4))), "{answer}");
                Ok(())
            })?;
            netns.ip(&format!("link set {interface} up"))?;
            next_hops(&netns, SocketAddr::new(to.address(Family::V4), ECHO_PORT), 2)?;
        }
        Ok(())
    });
}

#[test]
fn tors_that_export_no_pool_cut_the_racks_off_from_each_other() {
    isolation::isolated("tors_that_export_no_pool_cut_the_racks_off_from_each_other", || {
        let topology = Topology::default();
        let (_lab, _speakers) = fabric(&topology, Some(Fault::TorExport))?;
        let nodes = topology.nodes();
        let (a1, b1, b2) = (&nodes[0], &nodes[2], &nodes[3]);
        until(10 * SECOND, "inside the rack", || {
            let answer = ping(&Netns::open(&b1.name)?, block(b2, Family::V4).1, SECOND)?;
            ensure!(answer.reached(), "{answer}");
            Ok(())
        })?;
        let answer = ping(&Netns::open(&a1.name)?, block(b1, Family::V4).1, SECOND)?;
        ensure!(!answer.reached(), "{answer}");
        Ok(())
    });
}

fn a_tor_dies(family: Family, families: Families) -> Result<()> {
    let topology = Topology::default().with_families(families);
    let (mut lab, _speakers) = fabric(&topology, None)?;
    let nodes = topology.nodes();
    let (from, to) = (&nodes[0], &nodes[2]);
    let _servers = Servers::start(&Netns::open(&to.name)?, &[], &[ECHO_PORT])?;
    let netns = Netns::open(&from.name)?;
    let target = SocketAddr::new(to.address(family), ECHO_PORT);
    let capture = Capture::start(lab.router("tor-a2")?.netns(), "spine1")?;
    let flow = Flow::start(&netns, target, 8)?;
    lab.router_mut("tor-a1")?.power_off()?;
    next_hops(&netns, target, 1)?;
    let report = flow.finish()?;
    ensure!(report.longest_outage() < SECOND, "{report}");
    let flow = Flow::start(&netns, target, 8)?;
    lab.router_mut("tor-a1")?.power_on()?;
    lab.wait_for_sessions(20 * SECOND)?;
    next_hops(&netns, target, 2)?;
    let report = flow.finish()?;
    ensure!(report.longest_outage() < SECOND, "{report}");
    let packets = capture.finish()?;
    ensure!(packets.iter().any(|packet| packet.destination_port == Some(ECHO_PORT)), "{}", packets.len());
    Ok(())
}

fn next_hops(netns: &Netns, target: SocketAddr, wanted: usize) -> Result<()> {
    until(10 * SECOND, &format!("{wanted} next hops to {target}"), || {
        let routes = kernel_routes(netns, Family::of(target.ip()))?;
        let route = routes.iter().find(|route| route.prefix == Cidr::host(target.ip()));
        ensure!(route.is_some_and(|route| route.next_hops.len() == wanted), "{route:?}");
        Ok(())
    })
}

#[test]
fn a_dead_tor_costs_less_than_a_second_and_its_packets_are_seen_on_the_wire() {
    isolation::isolated("a_dead_tor_costs_less_than_a_second_and_its_packets_are_seen_on_the_wire", || {
        a_tor_dies(Family::V4, Families::V4)
    });
}

#[test]
fn a_dead_tor_costs_less_than_a_second_in_ipv6() {
    isolation::isolated("a_dead_tor_costs_less_than_a_second_in_ipv6", || a_tor_dies(Family::V6, Families::Dual));
}

#[test]
fn the_monitor_sees_route_changes_and_not_its_own() {
    isolation::isolated("the_monitor_sees_route_changes_and_not_its_own", || {
        let netns = Netns::create("one")?;
        let monitor = RouteMonitor::start(&netns)?;
        ensure!(monitor.finish()?.is_empty());
        let monitor = RouteMonitor::start(&netns)?;
        netns.ip("route add blackhole 10.9.0.0/16")?;
        let changes = monitor.finish()?;
        ensure!(changes.len() == 1 && changes[0].contains("10.9.0.0/16"), "{changes:?}");
        Ok(())
    });
}

#[test]
fn nodes_reach_etcd_over_a_network_of_its_own() {
    isolation::isolated("nodes_reach_etcd_over_a_network_of_its_own", || {
        let lab = Lab::fabric(LabOptions::new(Topology::one_rack()).datastore(DatastoreKind::Etcd))?;
        let server: SocketAddr = lab.datastore_url().trim_start_matches("etcd://").parse()?;
        for node in lab.nodes() {
            node.netns().enter(|| Ok(std::net::TcpStream::connect_timeout(&server, SECOND)?))?;
        }
        Ok(())
    });
}

#[test]
fn a_speaker_that_is_killed_and_restarts_gracefully_changes_no_route_on_its_tor() {
    isolation::isolated("a_speaker_that_is_killed_and_restarts_gracefully_changes_no_route_on_its_tor", || {
        let topology = Topology::default();
        let (lab, mut speakers) = fabric(&topology, None)?;
        let node = &topology.nodes()[0];
        let tor = lab.router("tor-a1")?;
        let session = session_name(&node.name, Family::V4);
        let is_up = |wanted: bool| {
            until(20 * SECOND, &format!("{session} up: {wanted}"), || {
                let up = tor.established()?;
                ensure!(up.contains(&session) == wanted, "{up:?}");
                Ok(())
            })
        };
        until(20 * SECOND, "the ToR has all routes with all next hops", || {
            let routes = kernel_routes(tor.netns(), Family::V4)?;
            for far in topology.nodes() {
                let wanted = if far.rack == node.rack { 1 } else { 2 };
                for prefix in [block(&far, Family::V4).0, Cidr::host(far.address(Family::V4))] {
                    let is_it = |r: &&KernelRoute| r.prefix == prefix && r.protocol == "bird";
                    let route = routes.iter().find(is_it);
                    ensure!(route.is_some_and(|route| route.next_hops.len() == wanted), "{prefix}: {route:?}");
                }
            }
            Ok(())
        })?;
        let monitor = RouteMonitor::start(tor.netns())?;
        speakers.remove(0).kill()?;
        is_up(false)?;
        let _again = launch(node, &["-R"])?;
        is_up(true)?;
        until(20 * SECOND, "graceful restart is over", || {
            let shown = tor.birdc(&format!("show protocols all {session}"))?;
            ensure!(!shown.contains("graceful restart active"), "{shown}");
            Ok(())
        })?;
        let changes = monitor.finish()?;
        ensure!(changes.is_empty(), "{changes:?}");
        let log = std::fs::read_to_string(tor.log())?;
        let told = |line: &&str| line.contains(&session) && line.to_lowercase().contains("graceful restart");
        ensure!(log.lines().any(|line| told(&line)), "{log}");
        Ok(())
    });
}
