//! `margayd bgp` between two BIRDs, with `margayctl` on its socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use margay_lab::{Binaries, Netns, Process, isolation, process, until};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const DIRECTORY: &str = "/run/speaker";

/// Our speaker's namespace with a cable to each of two others, in which BIRD runs.
struct World {
    ours: Netns,
    birds: Vec<(Netns, Process)>,
}

impl World {
    fn new() -> Result<World> {
        let (ours, others) = cables()?;
        let birds = others.into_iter().zip(1..);
        let birds = birds.map(|(netns, number)| Ok((netns.clone(), bird(number, &netns)?))).collect::<Result<_>>()?;
        Ok(World { ours, birds })
    }

    fn speaker(&self) -> Result<Process> {
        speaker(&self.ours)
    }

    /// What BIRD holds of ours.
    fn bird_routes(&self, number: usize) -> Result<String> {
        let socket = format!("{DIRECTORY}/bird{number}.ctl");
        let arguments = ["-s", &socket, "show", "route", "protocol", "margay", "all"];
        Ok(process::run(Command::new("birdc").args(arguments))?.stdout)
    }

    /// The prefixes of protocol 79 in our kernel.
    fn kernel(&self) -> Result<Vec<String>> {
        let shown = self.ours.ip("route show proto 79")?;
        Ok(shown.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
    }
}

/// Our namespace, and two others with a cable to it each: 192.0.N.1 is ours, 192.0.N.2 theirs.
fn cables() -> Result<(Netns, Vec<Netns>)> {
    std::fs::create_dir_all(DIRECTORY)?;
    let ours = Netns::create("ours")?;
    let mut others = Vec::new();
    for number in [1, 2] {
        let theirs = Netns::create(&format!("bird{number}"))?;
        ours.ip(&format!("link add to{number} type veth peer name cable netns bird{number}"))?;
        ours.ip(&format!("address add 192.0.{number}.1/24 dev to{number}"))?;
        ours.ip(&format!("link set to{number} up"))?;
        theirs.ip(&format!("address add 192.0.{number}.2/24 dev cable"))?;
        theirs.ip("link set cable up")?;
        others.push(theirs);
    }
    Ok((ours, others))
}

/// A speaker that reads the configuration in [`file`].
fn speaker(netns: &Netns) -> Result<Process> {
    let mut command = Command::new(Binaries::locate()?.path("margayd")?);
    command.args(["bgp", "--config", &file().display().to_string(), "--run", DIRECTORY]);
    command.args(["--state", &format!("{DIRECTORY}/state"), "--metrics-listen", "127.0.0.1:9191"]);
    Process::start("speaker", netns, &mut command, &Path::new(DIRECTORY).join("speaker.log"))
}

fn bird(number: u8, netns: &Netns) -> Result<Process> {
    bird_with(number, netns, 65000 + u32::from(number), "where source = RTS_STATIC")
}

/// A BIRD of an AS, with what it exports.
fn bird_with(number: u8, netns: &Netns, asn: u32, export: &str) -> Result<Process> {
    let mut text = format!(
        "log \"{DIRECTORY}/bird{number}.log\" all;\nrouter id 192.0.{number}.2;\nprotocol device {{ }}\n\
         protocol static {{ ipv4;\n"
    );
    for prefix in 0..4 {
        text.push_str(&format!("  route 10.{number}.{prefix}.0/24 blackhole;\n"));
    }
    text.push_str(&format!(
        "}}\nprotocol bgp margay {{ local 192.0.{number}.2 as {asn}; neighbor 192.0.{number}.1 as 64512;\n  \
         graceful restart on; graceful restart time 30; connect retry time 1; error wait time 1, 1;\n  \
         ipv4 {{ import all; export {export}; }}; }}\n"
    ));
    let config = format!("{DIRECTORY}/bird{number}.conf");
    std::fs::write(&config, text)?;
    let mut command = Command::new("bird");
    command.args(["-f", "-c", &config, "-s", &format!("{DIRECTORY}/bird{number}.ctl")]);
    command.args(["-P", &format!("{DIRECTORY}/bird{number}.pid")]);
    let log = PathBuf::from(format!("{DIRECTORY}/bird{number}.out"));
    Process::start("bird", netns, &mut command, &log)
}

fn file() -> PathBuf {
    Path::new(DIRECTORY).join("speaker.yaml")
}

/// A configuration for both BIRDs; `first` and `second` are further settings of the two peers.
fn config(fib: &str, networks: &str, first: &str, second: &str) -> Result<()> {
    let text = format!(
        "asn: 64512\nrouterId: 192.0.1.1\nfib: {fib}\nnetworks: [{networks}]\nfilters:\n  no-third:\n    default: accept\n    \
         rules:\n      - {{prefixes: [10.1.3.0/24], action: reject}}\n  ours:\n    rules:\n      - {{from: [networks], \
         action: accept}}\ntemplates:\n  bird: {{connectRetry: 1s, import: [accept-all], export: [ours]}}\npeers:\n  \
         one: {{template: bird, address: 192.0.1.2, asn: 65001{first}}}\n  two: {{template: bird, address: 192.0.2.2, \
         asn: 65002{second}}}\n"
    );
    Ok(std::fs::write(file(), text)?)
}

fn ctl_any(arguments: &[&str]) -> Result<process::Output> {
    let mut command = Command::new(Binaries::locate()?.path("margayctl")?);
    command.args(["--socket", &format!("{DIRECTORY}/margayd.sock")]).args(arguments).env_remove("MARGAY_DATASTORE");
    process::run_any(&mut command, &[])
}

fn ctl(arguments: &[&str]) -> Result<String> {
    let output = ctl_any(arguments)?;
    ensure!(output.code == 0, "margayctl {arguments:?} exited with {}: {}", output.code, output.stderr);
    Ok(output.stdout)
}

fn ctl_json(arguments: &[&str]) -> Result<Value> {
    let text = ctl(&[arguments, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).context(text)
}

/// Asks for the metrics as a scraper does.
fn scrape(mut stream: impl Read + Write) -> Result<String> {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: margayd\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
    Ok(body.to_owned())
}

/// How often each session was established, once both are up.
fn established() -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for peer in ["one", "two"] {
        let neighbor = ctl_json(&["bgp", "neighbor", peer])?;
        ensure!(neighbor["state"] == "Established", "{peer}: {neighbor}");
        counts.insert(peer.to_owned(), neighbor["established_count"].as_u64().context("a count")?);
    }
    Ok(counts)
}

fn wait_established(speaker: &mut Process) -> Result<BTreeMap<String, u64>> {
    until(LIMIT, "both sessions are up", || {
        speaker.check_running()?;
        established()
    })
}

#[test]
fn a_reload_touches_only_the_sessions_that_it_must() {
    isolation::isolated("a_reload_touches_only_the_sessions_that_it_must", || {
        let world = World::new()?;
        config("kernel", "203.0.113.0/24", "", "")?;
        let mut speaker = world.speaker()?;
        wait_established(&mut speaker)?;
        until(LIMIT, "the kernel has the routes", || {
            let routes = world.kernel()?;
            if routes.len() == 8 { Ok(()) } else { bail!("{routes:?}") }
        })?;
        ensure!(world.ours.run("nft", &["list", "tables"])?.stdout.is_empty(), "a speaker has no policy");

        // A filter, a network and another peer's timer change.
        config("kernel", "203.0.113.0/24, 198.51.100.0/24", ", import: [no-third]", ", holdTime: 12s")?;
        speaker.signal(Signal::SIGHUP)?;
        until(LIMIT, "the changed session is up again and the filter in force", || {
            let counts = established()?;
            let routes = world.kernel()?;
            let told = world.bird_routes(1)?;
            let done = counts["two"] == 2 && routes.len() == 7 && told.contains("198.51.100.0/24");
            if done { Ok(()) } else { bail!("{counts:?} {routes:?} {told}") }
        })?;
        ensure!(established()?["one"] == 1, "the other session was reset");
        ensure!(!world.kernel()?.contains(&"10.1.3.0/24".to_owned()), "the filter is not in force");
        ensure!(ctl_json(&["bgp", "neighbor", "two"])?["hold_time_seconds"] == 12, "the timer");

        // A mistake changes nothing, and is said with its place.
        let good = std::fs::read_to_string(file())?;
        std::fs::write(file(), good.replace("holdTime: 12s", "holdTime: 2s").replace(", 198.51.100.0/24", ""))?;
        speaker.signal(Signal::SIGHUP)?;
        until(LIMIT, "the refusal is shown", || {
            let status = ctl(&["status"])?;
            let shown = status.contains("refused now") && status.contains("a hold time is 0, or 3 to 65535");
            if shown && status.contains("line 17, column 67") { Ok(()) } else { bail!("{status}") }
        })?;
        ensure!(world.bird_routes(1)?.contains("198.51.100.0/24"), "half of a refused file was applied");
        ensure!(established()?.values().copied().eq([1, 2]), "a refused file touched a session");
        std::fs::write(file(), good.replace("fib: kernel", "fib: none"))?;
        speaker.signal(Signal::SIGHUP)?;
        until(LIMIT, "the FIB stays as it is", || {
            let status = ctl(&["status"])?;
            if status.contains("'fib' cannot be changed") { Ok(()) } else { bail!("{status}") }
        })?;
        std::fs::write(file(), &good)?;
        speaker.signal(Signal::SIGHUP)?;
        until(LIMIT, "a good file ends the warning", || {
            let status = ctl(&["status"])?;
            if status.contains("refused") { bail!("{status}") } else { Ok(()) }
        })?;

        // SIGTERM is a restart: the routes stay in both directions, and the next run takes over.
        ensure!(speaker.terminate(LIMIT)? == 0, "the exit code after SIGTERM");
        ensure!(world.kernel()?.len() == 7, "routes were taken away by a restart");
        ensure!(world.bird_routes(1)?.contains("203.0.113.0/24"), "the peer did not keep the routes");
        let mut speaker = world.speaker()?;
        wait_established(&mut speaker)?;
        until(LIMIT, "the table is whole again", || {
            let routes = ctl_json(&["bgp", "routes"])?;
            let count = routes["routes"].as_array().map_or(0, Vec::len);
            if count == 10 { Ok(()) } else { bail!("{count} routes") }
        })?;
        ensure!(world.kernel()?.len() == 7 && !world.birds.is_empty(), "routes were lost over a restart");
        Ok(())
    });
}

#[test]
fn a_next_hop_off_the_links_is_reached_by_the_hosts_routes() {
    isolation::isolated("a_next_hop_off_the_links_is_reached_by_the_hosts_routes", || {
        let (ours, others) = cables()?;
        let export = "filter { if source = RTS_STATIC then { bgp_next_hop = 198.51.100.9; accept; } reject; }";
        let _bird = bird_with(1, &others[0], 64512, export)?;
        std::fs::write(
            file(),
            "asn: 64512\nrouterId: 192.0.1.1\nfib: kernel\npeers:\n  one: {address: 192.0.1.2, asn: 64512, \
             connectRetry: 1s, import: [accept-all]}\n",
        )?;
        let mut speaker = speaker(&ours)?;
        let kernel =
            || -> Result<Vec<String>> { Ok(ours.ip("route show proto 79")?.lines().map(str::to_owned).collect()) };
        let all_through = |way: &str| {
            until(LIMIT, &format!("the kernel has the routes {way}"), || {
                let routes = kernel()?;
                let through = routes.iter().filter(|route| route.contains(way)).count();
                if through == 4 && routes.len() == 4 { Ok(()) } else { bail!("{routes:?}") }
            })
        };
        until(LIMIT, "the routes wait for their next hop", || {
            speaker.check_running()?;
            let peers = ctl_json(&["bgp", "peers"])?;
            let peer = &peers["peers"][0];
            if peer["received"] == 4 && peer["rejected"] == 4 { Ok(()) } else { bail!("{peer}") }
        })?;
        let why = ctl(&["bgp", "why", "10.1.0.0/24"])?;
        ensure!(why.contains("next hop is not reachable"), "{why}");
        ensure!(kernel()?.is_empty(), "routes without a way are in the kernel");

        ours.ip("route add 198.51.100.0/24 via 192.0.2.2 metric 30")?;
        all_through("via 192.0.2.2 dev to2")?;
        ours.ip("route add 198.51.100.8/29 via 192.0.1.2")?;
        all_through("via 192.0.1.2 dev to1")?;
        ours.ip("route del 198.51.100.8/29 via 192.0.1.2")?;
        all_through("via 192.0.2.2 dev to2")?;
        ours.ip("route del 198.51.100.0/24 via 192.0.2.2 metric 30")?;
        until(LIMIT, "the routes are gone with the way", || {
            let routes = kernel()?;
            if routes.is_empty() { Ok(()) } else { bail!("{routes:?}") }
        })
    });
}

#[test]
fn margayctl_explains_a_speaker_of_its_own() {
    isolation::isolated("margayctl_explains_a_speaker_of_its_own", || {
        let world = World::new()?;
        ensure!(ctl_any(&["bgp", "peers"])?.code == 3, "nobody serves the socket");
        config("none", "203.0.113.0/24", ", import: [no-third]", "")?;
        let mut speaker = world.speaker()?;
        wait_established(&mut speaker)?;
        until(LIMIT, "all routes are there", || {
            let peers = ctl_json(&["bgp", "peers"])?;
            let sums: [u64; 4] = ["received", "accepted", "rejected", "advertised"].map(|name| {
                peers["peers"].as_array().into_iter().flatten().filter_map(|peer| peer[name].as_u64()).sum()
            });
            if sums == [8, 7, 1, 2] { Ok(()) } else { bail!("{sums:?}: {peers}") }
        })?;
        ensure!(world.kernel()?.is_empty(), "without FIB nothing goes to the kernel");

        let rejected = ctl(&["bgp", "routes", "--rejected"])?;
        ensure!(rejected.lines().count() == 2 && rejected.contains("10.1.3.0/24  rejected"), "{rejected}");
        let received = ctl_json(&["bgp", "routes", "--received", "192.0.2.2"])?;
        ensure!(received["routes"].as_array().map(Vec::len) == Some(4), "{received}");
        let advertised = ctl(&["bgp", "routes", "--advertised", "one", "-o", "wide"])?;
        ensure!(advertised.contains("203.0.113.0/24") && advertised.lines().count() == 2, "{advertised}");
        let why = ctl(&["bgp", "why", "203.0.113.0/24"])?;
        ensure!(why.contains("best, from static") && why.contains("one  yes"), "{why}");
        let why = ctl(&["bgp", "why", "10.1.0.7/32"])?;
        ensure!(why.contains("10.1.0.0/24 covers it"), "{why}");
        ensure!(ctl_any(&["bgp", "routes", "10.9.0.0/24"])?.code == 1, "a prefix that is not there");
        let unknown = ctl_any(&["bgp", "neighbor", "three"])?;
        ensure!(unknown.code == 1 && unknown.stderr.contains("the peers are: one, two"), "{unknown:?}");
        ensure!(ctl_any(&["bgp", "routes", "--received", "one", "--advertised", "two"])?.code == 2, "two questions");

        // Events are followed while a session is reset.
        let mut follow = Command::new(Binaries::locate()?.path("margayctl")?);
        follow.args([
            "--socket",
            &format!("{DIRECTORY}/margayd.sock"),
            "bgp",
            "events",
            "-f",
            "--peer",
            "one",
            "-o",
            "json",
        ]);
        let mut following = follow.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(following.stdout.take().context("a pipe")?).lines();
        let mut next = |kind: &str| -> Result<Value> {
            for line in lines.by_ref() {
                let event: Value = serde_json::from_str(&line?)?;
                ensure!(event["peer"] == "one", "{event}");
                if event["kind"] == kind {
                    return Ok(event);
                }
            }
            bail!("the stream ended before '{kind}'")
        };
        next("session_established")?;
        ctl(&["bgp", "reset", "one", "--reason", "a new cable"])?;
        next("session_lost")?;
        following.kill()?;
        following.wait()?;
        until(LIMIT, "the session is back", || {
            let counts = established()?;
            if counts["one"] == 2 && counts["two"] == 1 { Ok(()) } else { bail!("{counts:?}") }
        })?;
        let neighbor = ctl(&["bgp", "neighbor", "one"])?;
        ensure!(neighbor.contains("notification out") && neighbor.contains("a new cable"), "{neighbor}");
        let drained = ctl(&["bgp", "drain", "--withdraw-after", "90s"])?;
        ensure!(drained.contains("on request") && drained.contains("1m 30s"), "{drained}");
        ensure!(ctl(&["bgp", "peers"])?.contains("drained on request"), "the drain is not shown");
        ensure!(ctl_json(&["bgp", "undrain"])?["done"] == "not drained", "undrain");

        until(LIMIT, "the metrics are those of the sessions", || {
            let by_socket = scrape(UnixStream::connect(format!("{DIRECTORY}/margayd.sock"))?)?;
            let by_tcp = world.ours.enter(|| scrape(TcpStream::connect("127.0.0.1:9191")?))?;
            for text in [by_socket, by_tcp] {
                ensure!(text.contains("margay_bgp_peer_up{peer=\"one\"} 1.0\n") && text.ends_with("# EOF\n"), "{text}");
                ensure!(text.contains("margay_bgp_peer_flaps_total{peer=\"one\"} 1.0\n"), "{text}");
                ensure!(text.contains("reason=\"policy\"} 1.0\n"), "{text}");
            }
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
fn exit_codes_tell_a_bad_file_from_a_failure() {
    isolation::isolated("exit_codes_tell_a_bad_file_from_a_failure", || {
        std::fs::create_dir_all(DIRECTORY)?;
        let margayd = |arguments: &[&str]| -> Result<process::Output> {
            let mut command = Command::new(Binaries::locate()?.path("margayd")?);
            let path = file().display().to_string();
            command.args(["bgp", "--config", &path, "--run", DIRECTORY]).args(arguments);
            process::run_any(&mut command, &[])
        };
        let missing = margayd(&["--check"])?;
        ensure!(missing.code == 2 && missing.stderr.contains("cannot read"), "{missing:?}");
        config("none", "203.0.113.0/24", "", "")?;
        let good = margayd(&["--check"])?;
        ensure!(good.code == 0 && good.stdout.contains("good: 2 peers"), "{good:?}");
        config("none", "203.0.113.0/24", ", holdtime: 3s", "")?;
        for arguments in [["--check"].as_slice(), &[]] {
            let bad = margayd(arguments)?;
            let said = "speaker.yaml: line 16, column 57: unknown field `holdtime`; did you mean `holdTime`?\n";
            ensure!(bad.code == 2 && bad.stderr.contains(said), "{bad:?}");
        }
        config("none", "203.0.113.0/24", "", "")?;
        // The socket's folder can't be made below a file.
        let failed = margayd(&["--socket", &format!("{}/x/margayd.sock", file().display())])?;
        ensure!(failed.code == 1, "{failed:?}");
        Ok(())
    });
}

/// What a node announces that it may, and what it may not.
const OWN: [&str; 3] = ["10.65.0.0/26", "10.65.1.7/32", "192.0.1.1/32"];
const EVIL: [&str; 6] = ["0.0.0.0/0", "10.65.0.0/16", "10.65.0.0/24", "10.65.0.0/27", "172.16.0.0/12", "192.0.2.0/24"];
/// A block that is said to come from another AS.
const FOREIGN: &str = "10.65.2.0/26";

/// Puts a node, its router and a pool into a datastore, and prints the router's side.
fn tor_config(vendor: &str) -> Result<String> {
    let manifest = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\nspec:\n  bgp: {asNumber: 64512, \
                    ipv4Address: 192.0.1.1/24}\n---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: \
                    tor}\nspec: {peerIP: 192.0.1.2, asNumber: 65001, keepaliveTime: 3s}\n---\napiVersion: \
                    projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pods}\nspec: {cidr: 10.65.0.0/16}\n";
    let margayctl = |arguments: &[&str], stdin: &str| {
        let mut command = Command::new(Binaries::locate()?.path("margayctl")?);
        command.args(arguments).env("MARGAY_DATASTORE", format!("sqlite://{DIRECTORY}/margay.db"));
        process::run_with_stdin(&mut command, stdin.as_bytes())
    };
    margayctl(&["apply", "-f", "-"], manifest)?;
    Ok(margayctl(&["bgp", "tor-config", "--vendor", vendor], "")?.stdout)
}

/// Announces everything, good and evil, to the router.
fn announce_all(netns: &Netns) -> Result<Process> {
    let networks: Vec<&str> = OWN.into_iter().chain(EVIL).chain([FOREIGN]).collect();
    let text = format!(
        "asn: 64512\nrouterId: 192.0.1.1\nnetworks: [{}]\nfilters:\n  all:\n    default: accept\n    rules:\n      - \
         {{prefixes: [{FOREIGN}], action: accept, set: [{{prepend: {{asn: 64666, count: 1}}}}]}}\npeers:\n  one: \
         {{address: 192.0.1.2, asn: 65001, connectRetry: 1s, import: [accept-all], export: [all]}}\n",
        networks.join(", ")
    );
    std::fs::write(file(), text)?;
    speaker(netns)
}

/// Waits until the router was told everything, and holds what is the node's own and nothing else.
fn takes_the_nodes_own_and_nothing_else(held: impl Fn() -> Result<Vec<String>>) -> Result<()> {
    until(LIMIT, "the router was told everything", || {
        let told = ctl_json(&["bgp", "peers"])?["peers"][0]["advertised"].clone();
        if told == OWN.len() + EVIL.len() + 1 { Ok(()) } else { bail!("{told}") }
    })?;
    let mut own = OWN.map(str::to_owned).to_vec();
    own.sort();
    until(LIMIT, "the router holds the node's own", || {
        let mut held = held()?;
        held.sort();
        if held == own { Ok(()) } else { bail!("{held:?}") }
    })
}

#[test]
fn bird_as_a_router_takes_what_a_node_owns_and_nothing_else() {
    isolation::isolated("bird_as_a_router_takes_what_a_node_owns_and_nothing_else", || {
        let (ours, others) = cables()?;
        let config = format!("{DIRECTORY}/tor.conf");
        let text = tor_config("bird")?;
        std::fs::write(&config, format!("router id 192.0.1.2;\nprotocol device {{ }}\n{text}"))?;
        let mut command = Command::new("bird");
        let socket = format!("{DIRECTORY}/tor.ctl");
        command.args(["-f", "-c", &config, "-s", &socket, "-P", &format!("{DIRECTORY}/tor.pid")]);
        let _bird = Process::start("bird", &others[0], &mut command, &Path::new(DIRECTORY).join("tor.out"))?;
        let _speaker = announce_all(&ours)?;
        takes_the_nodes_own_and_nothing_else(|| {
            let shown = process::run(Command::new("birdc").args(["-s", &socket, "show", "route"]))?.stdout;
            let prefixes = shown.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.contains('/'));
            Ok(prefixes.map(str::to_owned).collect())
        })
    });
}

#[test]
fn frr_as_a_router_takes_what_a_node_owns_and_nothing_else() {
    isolation::isolated("frr_as_a_router_takes_what_a_node_owns_and_nothing_else", || {
        let (ours, others) = cables()?;
        let config = format!("{DIRECTORY}/bgpd.conf");
        // Without zebra there is nobody who finds an address for the identifier.
        let identifier = "router bgp 65001\n bgp router-id 192.0.1.2\nexit\n";
        std::fs::write(&config, format!("{identifier}{}", tor_config("frr")?))?;
        let mut command = Command::new("/usr/lib/frr/bgpd");
        command.args(["--skip_runas", "--no_zebra", "--vty_port", "0", "--listenon", "192.0.1.2"]);
        command.args(["--vty_socket", DIRECTORY, "-i", &format!("{DIRECTORY}/bgpd.pid"), "-f", &config]);
        let _bgpd = Process::start("bgpd", &others[0], &mut command, &Path::new(DIRECTORY).join("bgpd.out"))?;
        let _speaker = announce_all(&ours)?;
        takes_the_nodes_own_and_nothing_else(|| {
            let mut command = Command::new("vtysh");
            command.args(["--vty_socket", DIRECTORY, "-d", "bgpd", "-c", "show bgp ipv4 unicast json"]);
            let table: Value = serde_json::from_str(&process::run(&mut command)?.stdout)?;
            Ok(table["routes"].as_object().into_iter().flatten().map(|(prefix, _)| prefix.clone()).collect())
        })
    });
}
