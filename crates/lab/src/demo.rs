//! The demo: brings up a cluster and shows, step by step, what a user gets from it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use margay_net::Family;

use crate::bird::Fault;
use crate::checks::failover::{self, Scene};
use crate::checks::reach::{self, By};
use crate::checks::{self, Report, policy, routes};
use crate::traffic::{Capture, ECHO_PORT, Servers};
use crate::{DatastoreKind, Families, Lab, LabOptions, Topology, manifests, process};

/// What the demo is asked for.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The folder that holds `config/examples/`'s files.
    pub config: PathBuf,
    pub families: Families,
    pub datastore: DatastoreKind,
    pub fault: Option<Fault>,
}

/// A finished demo: the lab, with servers in its pods, while this value lives.
#[derive(Debug)]
pub struct Demo {
    report: Report,
    lab: Option<Lab>,
    servers: Vec<Servers>,
}

/// How long a change may take to reach all nodes.
const SETTLE: Duration = Duration::from_secs(20);

/// How long to wait once something has failed: it's over then, what follows is for the diagnosis.
const SETTLE_AFTER_FAILURE: Duration = Duration::from_secs(1);

fn limit(report: &Report) -> Duration {
    if report.all_passed() { SETTLE } else { SETTLE_AFTER_FAILURE }
}

/// Runs all steps and prints them. Call it inside namespaces made by [`crate::isolation`].
pub fn run(options: &DemoOptions) -> Demo {
    let mut demo = Demo { report: Report::default(), lab: None, servers: Vec::new() };
    if demo.bring_up(options).is_some() && demo.look_around().is_some() && demo.report.all_passed() {
        demo.break_things();
        demo.apply_policies(options);
    }
    demo
}

impl Demo {
    /// Prints the result: what failed, with the ends of the daemons' logs, or how much passed. Whether all passed.
    pub fn conclude(&self) -> bool {
        let failures = self.report.failures();
        if failures.is_empty() {
            println!("\nAll {} steps passed.", self.report.passed());
            return true;
        }
        for node in self.lab.iter().flat_map(Lab::nodes).filter(|node| node.log().exists()) {
            println!("\nThe end of {}'s daemon log:\n{}", node.name(), process::tail(&node.log(), 6));
        }
        println!("\n{} steps passed, {} failed:", self.report.passed(), failures.len());
        failures.iter().for_each(|failure| println!("  {failure}"));
        false
    }

    /// Prints how to look around in a lab that stays up.
    pub fn print_what_to_try(&self) {
        println!(
            "
The lab stays up. Try, as root:
  cargo demo -- exec node-a1 -- margayctl status
  cargo demo -- exec node-a1 -- margayctl bgp routes
  cargo demo -- exec node-a1 -- ip route
  cargo demo -- exec node-a1 -- nft list table inet margay
  cargo demo -- exec frontend-a1 -- ip address
  cargo demo -- exec hub -- margayctl get networkpolicies -A
  cargo demo -- exec tor-a1 -- birdc -s /run/lab/tor-a1/bird.ctl show route
  cargo demo -- exec tor-a1 -- tcpdump -n -i spine1
  cargo demo -- exec hub -- ls /run/lab            (logs, sockets, the datastore)
  cargo demo -- down"
        );
    }

    fn bring_up(&mut self, options: &DemoOptions) -> Option<()> {
        let topology = Topology::default().with_families(options.families);
        let what = format!(
            "{} spines, {} racks with {} ToRs and {} nodes each (BIRD 2, an AS per router and node)",
            topology.spines, topology.racks, topology.tors_per_rack, topology.nodes_per_rack
        );
        let lab_options = LabOptions::new(topology).datastore(options.datastore).fault(options.fault);
        let mut up = None;
        self.report.step(&what, || {
            let lab = Lab::fabric(lab_options)?;
            let url = format!("datastore {}", lab.datastore_url());
            up = Some(lab);
            Ok(url)
        })?;
        let lab = self.lab.insert(up?);
        if options.families == Families::V4 {
            for name in manifests::DEFAULT_FILES {
                self.report.step(&format!("margayctl apply -f config/examples/{name}"), || {
                    lab.apply_file(&options.config.join(name))
                })?;
            }
        } else {
            self.report.step("margayctl apply -f - (the examples, for these families)", || {
                lab.apply(&manifests::cluster(&lab.options.topology))
            })?;
        }
        self.report.step("margayd node on each node", || lab.start_daemons())?;
        self.report.step("all BGP sessions of spines and ToRs are established", || lab.wait_for_sessions(SETTLE))?;
        self.report.step("eight pods, wired by margay-cni", || add_pods(lab))?;
        self.servers = self.report.step("servers in pods and on nodes", || checks::serve(lab).map(Kept))?.0;
        Some(())
    }

    fn look_around(&mut self) -> Option<()> {
        let (lab, report) = (self.lab.as_mut()?, &mut self.report);
        for &family in lab.families() {
            let wait = limit(report);
            report.step(&format!("each pod pings each other pod, {family}"), || {
                reach::all_reach(&reach::pod_pairs(lab, family, By::Ping)?, wait)
            });
            let wait = limit(report);
            report.step(&format!("each pod reaches each other pod by TCP with its own address, {family}"), || {
                captured(lab, family, || reach::all_reach(&reach::pod_pairs(lab, family, By::Tcp(ECHO_PORT))?, wait))
            });
            let wait = limit(report);
            report.step(&format!("nodes and pods ping each other, both ways, {family}"), || {
                reach::all_reach(&reach::nodes_and_pods(lab, family, By::Ping)?, wait)
            });
            let wait = limit(report);
            report.step(&format!("nodes and pods reach each other by TCP, sources kept, {family}"), || {
                reach::all_reach(&reach::nodes_and_pods(lab, family, By::Tcp(ECHO_PORT))?, wait)
            });
            report.step(&format!("nodes use both ToRs for each block of the other rack, {family}"), || {
                routes::nodes_use_both_tors(lab, family)
            });
            report.step(&format!("ToRs use all spines for the other rack, {family}"), || {
                routes::tors_use_all_spines(lab, family)
            });
        }
        report.step("no node has a default route", || routes::no_default_route(lab));
        report.step("no node is the way to somewhere else", || routes::no_node_gives_transit(lab));
        report.step("margayctl bgp peers", || routes::all_sessions_established(lab));
        report.step("margayctl ipam show", || routes::ipam_shows_the_pods(lab));
        report.step("no daemon has ended", || lab.check_daemons());
        Some(())
    }

    fn break_things(&mut self) {
        let (Some(lab), report) = (self.lab.as_mut(), &mut self.report) else { return };
        for &family in lab.families() {
            let scene = Scene { node: "node-a1".to_owned(), tor: "tor-a1".to_owned(), family };
            let mut measure = |what: &str, back: &str, run: fn(&mut Lab, &Scene) -> Result<_>| {
                let mut returned = None;
                report.step(&format!("{what}, {family}"), || {
                    let (gone, back) = run(lab, &scene)?;
                    returned = Some(back);
                    failover::under_a_second("when it went", &gone)
                });
                if let Some(flow) = returned {
                    report.step(&format!("{back}, {family}"), || failover::under_a_second("when it came back", &flow));
                }
            };
            measure("an uplink of node-a1 goes down", "and comes back", failover::uplink_down_and_up);
            measure("ToR tor-a1 loses power", "and comes back", failover::tor_dies_and_returns);
            report.step(&format!("the daemon of node-a1 is killed with SIGKILL and started again, {family}"), || {
                failover::restart_is_invisible(&failover::daemon_killed_and_restarted(lab, &scene)?)
            });
        }
    }

    fn apply_policies(&mut self, options: &DemoOptions) {
        let (Some(lab), report) = (self.lab.as_mut(), &mut self.report) else { return };
        let apply = |lab: &Lab, name: &str| lab.apply_file(&options.config.join(name));
        let deny = "policy-default-deny.yaml";
        if report.step(&format!("margayctl apply -f config/examples/{deny}"), || apply(lab, deny)).is_none() {
            return;
        }
        for &family in lab.families() {
            report.step(&format!("no pod gets an answer from another, {family}"), || {
                policy::default_deny(lab, family, SETTLE)
            });
        }
        let allow = "policy-frontend-to-backend.yaml";
        if report.step(&format!("margayctl apply -f config/examples/{allow}"), || apply(lab, allow)).is_none() {
            return;
        }
        for &family in lab.families() {
            report.step(&format!("each frontend reaches each backend on TCP 5432, {family}"), || {
                policy::frontend_reaches_backend(lab, family, SETTLE)
            });
            report.step(&format!("all else is met with silence, {family}"), || {
                policy::all_else_is_denied(lab, family, Duration::ZERO)
            });
        }
    }
}

fn add_pods(lab: &mut Lab) -> Result<String> {
    let mut lines = Vec::new();
    for (node, spec) in checks::demo_pods(lab) {
        let key = lab.add_pod(&node, &spec)?;
        let addresses: Vec<String> = lab.pod(&key)?.addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("{:24} {node:8} {}", key.to_string(), addresses.join(" ")));
    }
    Ok(lines.join("\n"))
}

/// Runs a check while the link from a ToR to a spine is captured; pods' packets must be there, none encapsulated.
fn captured(lab: &Lab, family: Family, check: impl FnOnce() -> Result<String>) -> Result<String> {
    let capture = Capture::start(lab.router("tor-a1")?.netns(), "spine1")?;
    let told = check()?;
    let packets = capture.finish()?;
    if let Some(packet) = packets.iter().find(|packet| packet.is_encapsulated()) {
        bail!("an encapsulated packet between tor-a1 and spine1: {packet:?}");
    }
    let pool = Topology::pool(family);
    let plain = packets.iter().filter(|packet| pool.contains(packet.source) && pool.contains(packet.destination));
    let plain = plain.count();
    if plain == 0 {
        bail!("none of {} packets between tor-a1 and spine1 has pods' addresses outermost", packets.len());
    }
    Ok(format!(
        "{told}; captured between tor-a1 and spine1: {plain} packets with pods' addresses outermost, none encapsulated"
    ))
}

/// What a step makes without anything to tell.
struct Kept<T>(T);

impl<T> checks::Found for Kept<T> {
    fn found(&self) -> String {
        String::new()
    }
}
