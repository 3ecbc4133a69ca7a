#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use margay_api::Object;
use margay_api::kinds::{
    BgpPeer, IpPool, IpPoolSpec, Node, NodeAddress, NodeBgp, NodeSpec, Password, SecretKeyRef, ServiceCidr,
    SourceAddress,
};
use margay_net::Asn;

use super::plan::{Bfd, plan};
use super::*;

fn node(name: &str, asn: u32, v4: &str, v6: Option<&str>, link: &str) -> Node {
    let bgp = NodeBgp {
        as_number: Some(Asn(asn)),
        ipv4_address: Some(v4.to_owned()),
        ipv6_address: v6.map(str::to_owned),
        ..NodeBgp::default()
    };
    let addresses = vec![NodeAddress { address: link.to_owned(), kind: None }];
    let mut node = Object::named(name, NodeSpec { bgp: Some(bgp), addresses, ..NodeSpec::default() });
    node.metadata.labels.insert("rack".to_owned(), "a".to_owned());
    node
}

fn peer(name: &str, ip: &str, change: impl Fn(&mut BgpPeerSpec)) -> BgpPeer {
    let mut spec = BgpPeerSpec {
        peer_ip: ip.to_owned(),
        as_number: Some(Asn(65101)),
        node_selector: "rack == 'a'".to_owned(),
        ..BgpPeerSpec::default()
    };
    change(&mut spec);
    Object::named(name, spec)
}

fn pool(name: &str, cidr: &str, block_size: Option<u8>) -> IpPool {
    Object::named(name, IpPoolSpec { cidr: cidr.parse().unwrap(), block_size, ..IpPoolSpec::default() })
}

struct Cluster {
    nodes: Vec<Node>,
    peers: Vec<BgpPeer>,
    pools: Vec<IpPool>,
    config: BgpConfigurationSpec,
}

/// A rack with two nodes behind a router, of which one is in the router's AS; both families.
fn cluster() -> Cluster {
    let secret = SecretKeyRef { name: "tor".to_owned(), key: "password".to_owned() };
    let password = Some(Password { secret_key_ref: Some(secret) });
    let mut hidden = pool("hidden", "10.99.0.0/16", None);
    hidden.spec.disable_bgp_export = true;
    Cluster {
        nodes: vec![
            node("node-a1", 64512, "192.0.2.11/32", Some("2001:db8::11/128"), "10.101.1.11/24"),
            node("node-a2", 65101, "192.0.2.12/32", None, "10.101.1.12/24"),
        ],
        peers: vec![
            peer("tor-a1", "10.101.1.1", |spec| {
                spec.source_address = Some(SourceAddress::None);
                spec.ttl_security = Some(1);
                spec.keepalive_time = Some("3s".to_owned());
                spec.password = password.clone();
            }),
            peer("tor-a1-v6", "2001:db8:1::1", |spec| spec.ttl_security = Some(2)),
            peer("node-a2", "192.0.2.12", |_| {}),
        ],
        pools: vec![pool("pods", "10.65.0.0/16", None), pool("pods-v6", "fd65::/64", Some(122)), hidden],
        config: BgpConfigurationSpec {
            service_load_balancer_ips: vec![ServiceCidr { cidr: "198.51.100.0/24".parse().ok() }],
            ..BgpConfigurationSpec::default()
        },
    }
}

impl Cluster {
    fn tors(&self, node: Option<&str>, wanted: &[&str]) -> Result<Vec<Tor>, String> {
        let resources = Resources { nodes: &self.nodes, peers: &self.peers, pools: &self.pools, config: &self.config };
        let wanted: Vec<std::net::IpAddr> = wanted.iter().map(|address| address.parse().unwrap()).collect();
        plan(resources, node, &wanted, 1000)
    }

    /// The whole router, with BFD on its IPv4 sessions.
    fn tor(&self) -> Tor {
        let mut tor = self.tors(None, &["10.101.1.1", "2001:db8:1::1"]).unwrap().remove(0);
        for session in tor.sessions.iter_mut().filter(|session| session.address.is_ipv4()) {
            session.bfd = Some(Bfd { min_tx: 100, min_rx: 100, multiplier: 3 });
        }
        tor
    }
}

#[test]
fn a_router_has_a_session_with_each_node_that_selects_it() {
    let cluster = cluster();
    let tors = cluster.tors(None, &[]).unwrap();
    let sessions = |tor: &Tor| -> Vec<(String, String, bool)> {
        let shown =
            |session: &plan::Session| (session.node.clone(), session.address.to_string(), session.address_is_a_guess);
        tor.sessions.iter().map(shown).collect()
    };
    assert_eq!(tors.len(), 2, "a peering between nodes is no router's");
    let expected = [("node-a1", "10.101.1.11", false), ("node-a2", "10.101.1.12", false)];
    assert_eq!(sessions(&tors[0]), expected.map(|(node, address, guess)| (node.into(), address.into(), guess)));
    assert_eq!(sessions(&tors[1]), [("node-a1".to_owned(), "2001:db8::11".to_owned(), false)]);
    assert_eq!((tors[0].sessions[0].hold_time, tors[0].sessions[0].keepalive), (9, 3));
    let one = cluster.tors(Some("node-a2"), &["10.101.1.1"]).unwrap();
    assert_eq!(one[0].sessions.len(), 1);
    assert!(cluster.tors(Some("node-z"), &[]).unwrap_err().contains("no node 'node-z'"));
    assert!(cluster.tors(None, &["10.0.0.9"]).unwrap_err().contains("there are 10.101.1.1"));
}

#[test]
fn a_node_whose_link_is_not_known_is_a_guess_that_is_said() {
    let mut cluster = cluster();
    cluster.nodes[0].spec.addresses.clear();
    let tor = cluster.tors(Some("node-a1"), &["10.101.1.1"]).unwrap().remove(0);
    assert!(tor.sessions[0].address_is_a_guess && bird::render(&tor).contains("put that in if it is another one"));
}

#[test]
fn a_node_that_peers_from_its_loopback_is_hops_away() {
    let mut cluster = cluster();
    cluster.peers[0].spec.source_address = None;
    cluster.peers[0].spec.ttl_security = None;
    let tor = cluster.tors(Some("node-a1"), &["10.101.1.1"]).unwrap().remove(0);
    assert_eq!(tor.sessions[0].address.to_string(), "192.0.2.11");
    for (vendor, words) in [
        (Vendor::Bird, "  multihop;\n"),
        (Vendor::Frr, "neighbor 192.0.2.11 ebgp-multihop 255\n"),
        (Vendor::Eos, "neighbor 192.0.2.11 ebgp-multihop 255\n"),
        (Vendor::Nxos, "    ebgp-multihop 255\n"),
        (Vendor::Junos, "neighbor 192.0.2.11 multihop\n"),
    ] {
        assert!(render(vendor, &tor).contains(words), "{vendor:?}");
    }
}

#[test]
fn every_vendors_text_is_as_recorded() {
    let tor = cluster().tor();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tor_config/golden");
    for vendor in Vendor::value_variants() {
        let name = vendor.to_possible_value().unwrap().get_name().to_owned();
        let text = render(*vendor, &tor);
        assert!(!text.contains("10.99.0.0"), "{name}: a pool that is not exported is taken");
        let file = directory.join(format!("{name}.conf"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let recorded = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, recorded, "{}: run with UPDATE_GOLDEN=1 if it is meant", file.display());
    }
}

#[test]
fn bird_takes_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bird.conf");
    let text = format!("router id 10.101.1.1;\nprotocol device {{ }}\n{}", bird::render(&cluster().tor()));
    std::fs::write(&file, &text).unwrap();
    let output = Command::new(program("bird", "bird2")).arg("-p").arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn frr_takes_its_text() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("frr.conf");
    for text in [frr::render(&cluster().tor(), false), frr::render(&cluster().tor(), true)] {
        std::fs::write(&file, &text).unwrap();
        let output = Command::new(program("vtysh", "frr")).arg("-C").arg("-f").arg(&file).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let complaints: Vec<&str> = said.lines().filter(|line| line.contains("line ")).collect();
        assert!(output.status.success() && complaints.is_empty(), "{said}\n{text}");
    }
    std::fs::write(&file, "router bgp 65101\n neighbor 10.0.0.1 no-such-word\n").unwrap();
    let output = Command::new(program("vtysh", "frr")).arg("-C").arg("-f").arg(&file).output().unwrap();
    assert!(!output.status.success(), "vtysh takes anything");
}

/// Finds a program that may be outside of the search path.
fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/lib/frr"].map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: apt-get install {package}"))
}
