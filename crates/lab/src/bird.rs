//! Spines and ToRs: BIRD 2 in a namespace, with the configuration that an operator of such a fabric writes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use margay_net::{Asn, Family};

use crate::{Netns, Process, Topology, isolation, process, until, wiring};

/// A deliberate mistake in the fabric, to show that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The ToRs of the last rack don't announce the pods' pools to the spines.
    TorExport,
}

/// A BGP session of a router: both ends' addresses, the far end's AS and the interface between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Session {
    far_name: String,
    interface: String,
    family: Family,
    local: std::net::IpAddr,
    remote: std::net::IpAddr,
    remote_asn: Asn,
    /// Whether the far end is a node of the cluster.
    to_node: bool,
    /// Whether routes inside the pools are withheld from it.
    withhold_pools: bool,
}

/// A router of the fabric.
#[derive(Debug)]
pub struct Router {
    name: String,
    netns: Netns,
    interfaces: Vec<String>,
    power_on: Vec<String>,
    sessions: usize,
    dir: PathBuf,
    bird: Option<Process>,
}

/// All routers of a topology, not yet started, with their configuration written.
pub fn routers(topology: &Topology, fault: Option<Fault>) -> Result<Vec<Router>> {
    let mut routers = Vec::new();
    for spine in topology.spines() {
        let mut sessions = Vec::new();
        for tor in topology.tors() {
            for &family in topology.families.each() {
                let (local, remote) = tor.link_to(&spine, family);
                sessions.push(Session {
                    far_name: tor.name.clone(),
                    interface: tor.name.clone(),
                    family,
                    local,
                    remote,
                    remote_asn: tor.asn,
                    to_node: false,
                    withhold_pools: false,
                });
            }
        }
        routers.push(Router::prepare(&spine.name, spine.asn, spine.router_id(), topology, &sessions)?);
    }
    for tor in topology.tors() {
        let mut sessions = Vec::new();
        for spine in topology.spines() {
            for &family in topology.families.each() {
                let (remote, local) = tor.link_to(&spine, family);
                sessions.push(Session {
                    far_name: spine.name.clone(),
                    interface: spine.name.clone(),
                    family,
                    local,
                    remote,
                    remote_asn: spine.asn,
                    to_node: false,
                    withhold_pools: fault == Some(Fault::TorExport) && tor.rack == topology.racks,
                });
            }
        }
        for node in topology.nodes_of(tor.rack) {
            for &family in topology.families.each() {
                sessions.push(Session {
                    far_name: node.name.clone(),
                    interface: wiring::downlink(&node),
                    family,
                    local: tor.address(family),
                    remote: node.address(family),
                    remote_asn: node.asn,
                    to_node: true,
                    withhold_pools: false,
                });
            }
        }
        routers.push(Router::prepare(&tor.name, tor.asn, tor.router_id(), topology, &sessions)?);
    }
    Ok(routers)
}

impl Router {
    fn prepare(
        name: &str,
        asn: Asn,
        router_id: std::net::Ipv4Addr,
        topology: &Topology,
        sessions: &[Session],
    ) -> Result<Router> {
        let dir = Path::new(isolation::LAB_DIR).join(name);
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let text = config(asn, router_id, topology, sessions);
        std::fs::write(dir.join("bird.conf"), text).context("write bird.conf")?;
        let mut interfaces: Vec<String> = sessions.iter().map(|s| s.interface.clone()).collect();
        interfaces.dedup();
        Ok(Router {
            name: name.to_owned(),
            netns: Netns::open(name)?,
            power_on: interfaces.iter().flat_map(|interface| wiring::link_up(topology, name, interface)).collect(),
            interfaces,
            sessions: sessions.len(),
            dir,
            bird: None,
        })
    }

    /// The router's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The router's namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// How many BGP sessions it is configured with.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// The file that BIRD logs to.
    pub fn log(&self) -> PathBuf {
        self.dir.join("bird.log")
    }

    /// Starts BIRD and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        if self.bird.is_some() {
            bail!("BIRD of {} runs already", self.name);
        }
        let mut command = Command::new("bird");
        command.args(["-f", "-c"]).arg(self.dir.join("bird.conf"));
        command.arg("-s").arg(self.socket()).arg("-P").arg(self.dir.join("bird.pid"));
        let mut bird = Process::start(&format!("bird of {}", self.name), &self.netns, &mut command, &self.log())?;
        until(Duration::from_secs(10), &format!("BIRD of {} answers", self.name), || {
            bird.check_running()?;
            self.birdc("show status")
        })?;
        self.bird = Some(bird);
        Ok(())
    }

    /// The router loses power: BIRD is gone without a word, every link loses its carrier, every route is forgotten.
    pub fn power_off(&mut self) -> Result<()> {
        if let Some(bird) = self.bird.take() {
            bird.kill()?;
        }
        let down: Vec<String> = self.interfaces.iter().map(|name| format!("link set {name} down")).collect();
        self.netns.ip_batch(&down)?;
        for family in ["-4", "-6"] {
            // Nothing to flush is an error to ip when the family has no table yet.
            let _ = self.netns.ip(&format!("{family} route flush proto bird"));
        }
        Ok(())
    }

    /// The router has power again.
    pub fn power_on(&mut self) -> Result<()> {
        self.netns.ip_batch(&self.power_on)?;
        self.start()
    }

    /// Asks BIRD, and gives its answer without the greeting.
    pub fn birdc(&self, question: &str) -> Result<String> {
        let mut command = Command::new("birdc");
        command.arg("-s").arg(self.socket()).args(question.split_whitespace());
        let output = process::run(&mut command).with_context(|| format!("birdc of {}", self.name))?;
        Ok(output.stdout.lines().skip(1).collect::<Vec<_>>().join("\n"))
    }

    /// The names of its BGP sessions that are established, as in `node_a1_ipv4`.
    pub fn established(&self) -> Result<Vec<String>> {
        let answer = self.birdc("show protocols")?;
        Ok(answer
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.get(1) == Some(&"BGP") && words.last() == Some(&"Established"))
            .map(|words| words[0].to_owned())
            .collect())
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("bird.ctl")
    }
}

/// The name of a session in BIRD's configuration.
pub fn session_name(far_end: &str, family: Family) -> String {
    format!("{}_{family}", far_end.replace('-', "_"))
}

fn config(asn: Asn, router_id: std::net::Ipv4Addr, topology: &Topology, sessions: &[Session]) -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{args}");
    };
    line(format_args!("log stderr all;\nrouter id {router_id};\ndebug protocols {{ states, events }};\n"));
    line(format_args!("protocol device {{ scan time 5; }}\n"));
    for &family in topology.families.each() {
        let (pool, nodes) = (Topology::pool(family), Topology::node_addresses(family));
        let (longest, bits) = (pool.len(), family.bits());
        line(format_args!("define POOLS_{family} = [ {pool}{{{longest},{bits}}} ];"));
        line(format_args!("define CLUSTER_{family} = [ {pool}{{{longest},{bits}}}, {nodes}{{{bits},{bits}}} ];"));
        // A node's own address is on the link to it already; with a route to it through itself IPv6 finds no next hop.
        let learned = match family {
            Family::V4 => "source = RTS_BGP",
            Family::V6 => "source = RTS_BGP && bgp_next_hop != net.ip",
        };
        line(format_args!(
            "protocol kernel kernel_{family} {{\n    merge paths on limit 16;\n    \
             {family} {{ import none; export where {learned}; }};\n}}\n"
        ));
    }
    if topology.bfd {
        line(format_args!("protocol bfd {{\n    interface \"*\" {{ interval 100 ms; multiplier 3; }};\n}}\n"));
    }
    line(format_args!(
        "template bgp fabric {{\n    hold time 9;\n    keepalive time 3;\n    connect delay time 1;\n    \
         connect retry time 2;\n    error wait time 1, 4;\n    error forget time 5;\n    direct;\n    \
         check link on;\n    graceful restart on;\n    graceful restart time 30;\n}}\n"
    ));
    for session in sessions {
        let Session { far_name, interface, family, local, remote, remote_asn, .. } = session;
        // From a node come the cluster's prefixes and nothing else; nobody is given a default route.
        let import = if session.to_node { format!("where net ~ CLUSTER_{family}") } else { "all".to_owned() };
        let export = if session.withhold_pools {
            format!("where source = RTS_BGP && net !~ POOLS_{family}")
        } else {
            format!("where source = RTS_BGP && net ~ CLUSTER_{family}")
        };
        let bfd = if topology.bfd { "bfd on;\n    " } else { "" };
        line(format_args!(
            "protocol bgp {} from fabric {{\n    local {local} as {asn};\n    neighbor {remote} as {remote_asn};\n    \
             interface \"{interface}\";\n    {bfd}{family} {{ import {import}; export {export}; next hop self; }};\n}}\n",
            session_name(far_name, *family)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Families;

    #[test]
    fn bird_accepts_the_configuration_of_every_family() {
        for families in [Families::V4, Families::V6, Families::Dual] {
            let topology = Topology::default().with_families(families).with_bfd();
            let tor = topology.tors().remove(0);
            let node = topology.nodes().remove(0);
            let sessions: Vec<Session> = families
                .each()
                .iter()
                .map(|&family| Session {
                    far_name: node.name.clone(),
                    interface: "node1".to_owned(),
                    family,
                    local: tor.address(family),
                    remote: node.address(family),
                    remote_asn: node.asn,
                    to_node: true,
                    withhold_pools: true,
                })
                .collect();
            let text = config(tor.asn, tor.router_id(), &topology, &sessions);
            let mut command = Command::new("bird");
            process::run_with_stdin(command.args(["-p", "-c", "/dev/stdin"]), text.as_bytes())
                .unwrap_or_else(|error| panic!("{error:#}\n{text}"));
        }
    }
}
