use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use margay_net::Family;
use serde_json::{Value, json};

use super::report::{Burst, Calls, Reach};
use crate::manifests::NAMESPACE;
use crate::measure::Timing;
use crate::traffic::{ECHO_PORT, Servers, parallel};
use crate::{Lab, Netns, Pod, PodSpec, cni, isolation, process};

/// Workers where the number of pods counts, and not the time that they take.
pub(super) const FEW: usize = 4;

/// How long a new pod may take to be reachable.
const REACHABLE: Duration = Duration::from_secs(20);
/// How long one attempt to reach it waits: some hops within the machine, and no retransmission.
const ATTEMPT: Duration = Duration::from_millis(10);

/// Makes pods of a lab, each with a name and a container of its own.
pub(super) struct Pods<'a> {
    lab: &'a Lab,
    made: usize,
}

impl<'a> Pods<'a> {
    pub(super) fn new(lab: &'a Lab) -> Pods<'a> {
        Pods { lab, made: 0 }
    }

    fn next(&mut self) -> (PodSpec, String) {
        self.made += 1;
        (PodSpec::new(NAMESPACE, &format!("pod-{}", self.made)), format!("{:08x}", self.made))
    }

    fn wire(&self, node: &str, (spec, container): &(PodSpec, String), netns: &Netns) -> Result<Pod> {
        cni::wire(self.lab.node(node)?, &self.lab.options.topology, spec, container, netns)
    }

    fn unwire(&self, pod: &Pod) -> Result<()> {
        cni::unwire(self.lab.node(&pod.node)?, &self.lab.options.topology, pod)
    }

    pub(super) fn add(&mut self, node: &str) -> Result<Pod> {
        let new = self.next();
        self.wire(node, &new, &cni::create_netns(&new.1)?)
    }

    pub(super) fn add_at_once(&mut self, node: &str, count: usize, workers: usize) -> Result<Vec<Pod>> {
        let new: Vec<_> = (0..count).map(|_| self.next()).collect();
        let add = |new: &(PodSpec, String)| self.wire(node, new, &cni::create_netns(&new.1)?);
        parallel(&new, workers, add).into_iter().collect()
    }

    pub(super) fn delete(&self, pod: Pod) -> Result<()> {
        self.unwire(&pod)?;
        pod.netns.delete()
    }

    pub(super) fn delete_all(&self, pods: Vec<Pod>) -> Result<()> {
        parallel(&pods, FEW, |pod| self.delete(pod.clone())).into_iter().collect()
    }

    /// Calls ADD and DEL in turn, one pod at a time, and takes turns with `ptp` where that is installed.
    pub(super) fn calls(&mut self, node: &str, count: usize, plugins: &Path) -> Result<(Calls, Option<Calls>)> {
        let ptp = Ptp::find(plugins)?;
        let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..count {
            let new = self.next();
            let netns = cni::create_netns(&new.1)?;
            let (added, pod) = timed(|| self.wire(node, &new, &netns))?;
            let (deleted, ()) = timed(|| self.unwire(&pod))?;
            netns.delete()?;
            ours[0].push(added);
            ours[1].push(deleted);
            if let Some(ptp) = &ptp {
                let netns = cni::create_netns(&format!("ptp-{}", new.1))?;
                let (added, result) = timed(|| ptp.call("ADD", &new.1, &netns, None))?;
                let (deleted, _) = timed(|| ptp.call("DEL", &new.1, &netns, Some(&result)))?;
                netns.delete()?;
                theirs[0].push(added);
                theirs[1].push(deleted);
            }
        }
        let calls = |[add, del]: [Vec<Duration>; 2]| Calls { add: Timing::of(&add), del: Timing::of(&del) };
        Ok((calls(ours), ptp.map(|_| calls(theirs))))
    }

    /// Calls ADD for many pods at the same moment, `rounds` times.
    pub(super) fn bursts(&mut self, node: &str, count: usize, rounds: usize) -> Result<Burst> {
        let (mut each, mut whole) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let new: Vec<_> = (0..count).map(|_| self.next()).collect();
            let new: Vec<_> =
                new.into_iter().map(|new| Ok((cni::create_netns(&new.1)?, new))).collect::<Result<_>>()?;
            let (start, began) = (Barrier::new(count), Instant::now());
            let added = parallel(&new, count, |(netns, new)| {
                start.wait();
                let start = began.elapsed();
                let pod = self.wire(node, new, netns)?;
                Ok((start, began.elapsed(), pod))
            });
            let added = added.into_iter().collect::<Result<Vec<(Duration, Duration, Pod)>>>()?;
            each.extend(added.iter().map(|(start, end, _)| *end - *start));
            let first = added.iter().map(|(start, ..)| *start).min().unwrap_or_default();
            let last = added.iter().map(|(_, end, _)| *end).max().unwrap_or_default();
            whole.push(last - first);
            self.delete_all(added.into_iter().map(|(.., pod)| pod).collect())?;
        }
        Ok(Burst { pods: count, rounds, each: Timing::of(&each), whole: Timing::of(&whole) })
    }

    /// Makes a pod with a server in it, and notes how long it takes from the start of ADD until a client elsewhere has
    /// its answer.
    pub(super) fn reach(&mut self, node: &str, client: &Netns, reach: &mut Reach) -> Result<Pod> {
        let new = self.next();
        let netns = cni::create_netns(&new.1)?;
        let _servers = Servers::start(&netns, &[ECHO_PORT], &[])?;
        let began = Instant::now();
        let pod = self.wire(node, &new, &netns)?;
        let added = began.elapsed();
        let server = SocketAddr::new(pod.address(Family::V4)?, ECHO_PORT);
        client.enter(|| {
            while let Err(error) = answer(server) {
                ensure!(began.elapsed() < REACHABLE, "{} can't be reached: {error:#}", pod.key());
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(())
        })?;
        reach.note(added, began.elapsed());
        Ok(pod)
    }
}

/// Connects once and waits for the server's line.
fn answer(server: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, ATTEMPT)?;
    stream.set_read_timeout(Some(REACHABLE))?;
    let mut line = String::new();
    ensure!(stream.read_to_string(&mut line)? > 0, "an empty answer");
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let began = Instant::now();
    let done = work()?;
    Ok((began.elapsed(), done))
}

/// The CNI project's plainest plugins, in a namespace without anything else: a veth pair, an address from a file, a
/// route; no policy, and nobody else is told.
struct Ptp<'a> {
    plugins: &'a Path,
    host: Netns,
}

impl Ptp<'_> {
    fn find(plugins: &Path) -> Result<Option<Ptp<'_>>> {
        if !["ptp", "host-local"].iter().all(|name| plugins.join(name).is_file()) {
            return Ok(None);
        }
        Ok(Some(Ptp { plugins, host: Netns::create("ptp-host")? }))
    }

    fn call(&self, verb: &str, container: &str, netns: &Netns, result: Option<&Value>) -> Result<Value> {
        let mut config = json!({
            "cniVersion": "1.0.0",
            "name": "bare",
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.77.0.0/16" }]],
                "dataDir": format!("{}/host-local", isolation::LAB_DIR),
            },
        });
        if let Some(result) = result {
            config["prevResult"] = result.clone();
        }
        let mut plugin = Command::new(self.plugins.join("ptp"));
        plugin.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        plugin.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", container).env("CNI_NETNS", netns.path());
        plugin.env("CNI_IFNAME", "eth0").env("CNI_PATH", self.plugins);
        let config = config.to_string();
        let output = self.host.enter(|| process::run_any(&mut plugin, config.as_bytes()))?;
        if output.code != 0 {
            bail!("ptp {verb} exited with {}: {}", output.code, output.stdout.trim());
        }
        if output.stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&output.stdout).context("the result of ptp is not JSON")
    }
}
