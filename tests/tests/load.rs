//! Sessions with a hold time of 3 s and BFD of 3 x 100 ms, while one peer gives `margayd bgp` all the work there is.
//!
//! ```text
//!   peer 1  10.9.1.1  ─┐
//!   ...                ├ this test, and margayd bfd ── veth ── margayd bgp and margayd bfd  10.9.0.1
//!   peer 50 10.9.1.50 ─┤
//!   others  10.9.2.N  ─┘
//! ```
//!
//! Each peer is told everything, and both ends share one machine: whatever is late here is late under a load of all
//! its processors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use margay_lab::{Binaries, Netns, Process, isolation, until};
use margay_local_api::{BfdMessage, BfdProcessStatus, BfdRequest, BfdSessionConfig, BfdSessionState, bfd_status};
use margay_tests::bgp::{Receiver, Speaker, keepalive};

const DIRECTORY: &str = "/run/load";
const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const SETTLE: Duration = Duration::from_secs(30);
const HOLD_TIME: u16 = 3;
/// A keepalive is due each second at most: so late, a third of the hold time was left.
const SILENCE: Duration = Duration::from_secs(2);
/// The upper 24 bits of the first /24, 20.0.0.0.
const FIRST: u32 = 0x14_0000;

fn peer(n: u8) -> Speaker {
    Speaker { address: Ipv4Addr::new(10, 9, 1, n), asn: 65100, hold_time: HOLD_TIME }
}

/// One that isn't well-behaved.
fn other(n: u8) -> Speaker {
    Speaker { address: Ipv4Addr::new(10, 9, 2, n), asn: 65200 + u16::from(n), hold_time: 90 }
}

/// The daemons, and the peers with their sessions up.
struct World {
    theirs: Netns,
    speaker: Process,
    _bfd: [Process; 2],
    /// The connection on which the peers' BFD sessions were asked for.
    _control: UnixStream,
    receivers: Vec<Receiver>,
    began: [BfdProcessStatus; 2],
}

impl World {
    /// Brings up `peers` sessions with BFD. `others` of further peers wait for their connections.
    fn new(peers: u8, others: u8) -> Result<World> {
        std::fs::create_dir_all(DIRECTORY)?;
        let (ours, theirs) = (Netns::create("ours")?, Netns::create("theirs")?);
        ours.ip("link add eth0 type veth peer name eth0 netns theirs")?;
        ours.ip(&format!("address add {DEVICE}/16 dev eth0"))?;
        ours.ip("link set eth0 up")?;
        let addresses = (1..=peers).map(|n| peer(n).address).chain((1..=others).map(|n| other(n).address));
        let lines = addresses.map(|address| format!("address add {address}/16 dev eth0"));
        theirs.ip_batch(&lines.chain(["link set eth0 up".to_owned()]).collect::<Vec<_>>())?;

        std::fs::write(file(), config(peers, others))?;
        let margayd = Binaries::locate()?.path("margayd")?;
        let start = |name: &str, netns: &Netns, arguments: &[&str]| {
            let log = PathBuf::from(format!("{DIRECTORY}/{name}.log"));
            Process::start(name, netns, Command::new(&margayd).args(arguments), &log)
        };
        let bfd = [
            start("bfd-ours", &ours, &["bfd", "--run", DIRECTORY])?,
            start("bfd-theirs", &theirs, &["bfd", "--socket", &their_socket()])?,
        ];
        let (file, state) = (file().display().to_string(), format!("{DIRECTORY}/state"));
        let arguments = ["bgp", "--config", &file, "--run", DIRECTORY, "--state", &state, "--metrics-listen", "off"];
        let mut speaker = start("speaker", &ours, &arguments)?;
        let receivers = (1..=peers).map(|n| {
            let stream = until(SETTLE, "a session", || {
                speaker.check_running()?;
                peer(n).connect(&theirs, DEVICE)
            })?;
            Ok(Receiver::start(stream))
        });
        let receivers = receivers.collect::<Result<Vec<_>>>()?;
        let control = until(SETTLE, "BFD of the peers", || ask_for_bfd(peers))?;
        let began = [our_socket(), their_socket()].map(|socket| until(SETTLE, "BFD", || all_up(&socket, peers)));
        let [ours, theirs_began] = began;
        Ok(World { theirs, speaker, _bfd: bfd, _control: control, receivers, began: [ours?, theirs_began?] })
    }

    /// Fails if a session has ended or a daemon died.
    fn check(&mut self) -> Result<()> {
        self.speaker.check_running()?;
        for (receiver, n) in self.receivers.iter().zip(1..) {
            if let Some(why) = receiver.ended() {
                bail!("peer {n}: {why}");
            }
        }
        Ok(())
    }

    /// Fails if a session of BGP or BFD has flapped since it came up; says how close it was.
    fn nothing_flapped(&mut self) -> Result<Duration> {
        self.check()?;
        let metrics = scrape()?;
        for n in 1..=self.receivers.len() {
            for line in [
                format!("margay_bgp_peer_up{{peer=\"p{n}\"}} 1.0\n"),
                format!("margay_bgp_peer_established_total{{peer=\"p{n}\"}} 1.0\n"),
                format!("margay_bgp_peer_flaps_total{{peer=\"p{n}\"}} 0.0\n"),
                format!("margay_bgp_peer_bfd_up{{peer=\"p{n}\"}} 1.0\n"),
            ] {
                ensure!(metrics.contains(&line), "no {line}{metrics}");
            }
        }
        for (socket, before) in [our_socket(), their_socket()].iter().zip(&self.began) {
            let status = all_up(socket, u8::try_from(self.receivers.len())?)?;
            println!("{socket}: {}, {:?}", status.scheduling, status.lateness);
            ensure!(status.state_changes == before.state_changes, "BFD changed: {status:#?}");
            ensure!(status.sessions.iter().all(|session| session.flaps == 0), "BFD flapped: {status:#?}");
            ensure!(status.dropped_by_kernel == 0, "{status:#?}");
        }
        let silence = self.receivers.iter().map(Receiver::silence).max().unwrap_or_default();
        ensure!(silence < SILENCE, "{silence:?} without a message of ours");
        Ok(silence)
    }
}

fn file() -> PathBuf {
    Path::new(DIRECTORY).join("speaker.yaml")
}

fn our_socket() -> String {
    format!("{DIRECTORY}/bfd.sock")
}

fn their_socket() -> String {
    format!("{DIRECTORY}/theirs.sock")
}

fn config(peers: u8, others: u8) -> String {
    let mut text = format!(
        "asn: 64512\nrouterId: {DEVICE}\ntemplates:\n  \
         peer: {{passive: true, holdTime: {HOLD_TIME}s, import: [accept-all], export: [accept-all], bfd: {{enabled: \
         true, minTx: 100ms, minRx: 100ms, multiplier: 3}}}}\n  \
         other: {{passive: true, import: [accept-all], export: [accept-all]}}\npeers:\n"
    );
    for (name, template, speaker) in (1..=peers)
        .map(|n| (format!("p{n}"), "peer", peer(n)))
        .chain((1..=others).map(|n| (format!("o{n}"), "other", other(n))))
    {
        let Speaker { address, asn, .. } = speaker;
        // Who reads nothing is waited for so long.
        let patience = if name == "o2" { ", holdTime: 3s, sendHoldTime: 4s" } else { "" };
        text.push_str(&format!("  {name}: {{template: {template}, address: {address}, asn: {asn}{patience}}}\n"));
    }
    text
}

/// Asks the peers' BFD for its sessions, which stay.
fn ask_for_bfd(peers: u8) -> Result<UnixStream> {
    let session = |n: u8| BfdSessionConfig {
        id: format!("p{n}"),
        remote: IpAddr::V4(DEVICE),
        local: Some(peer(n).address.into()),
        interface: Some("eth0".to_owned()),
        multihop: false,
        min_tx_ms: 100,
        min_rx_ms: 100,
        multiplier: 3,
        min_ttl: None,
        passive: false,
    };
    let request = BfdRequest::Sessions { owner: "peers".to_owned(), sessions: (1..=peers).map(session).collect() };
    let mut stream = UnixStream::connect(their_socket())?;
    stream.set_read_timeout(Some(SETTLE))?;
    stream.write_all(format!("{}\n", serde_json::to_string(&request)?).as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    match serde_json::from_str(&line)? {
        BfdMessage::Applied { refused, .. } if refused.is_empty() => Ok(stream),
        answer => bail!("{answer:?}"),
    }
}

fn all_up(socket: &str, peers: u8) -> Result<BfdProcessStatus> {
    let status = bfd_status(Path::new(socket))?;
    let up = status.sessions.iter().filter(|session| {
        (session.state, session.detection_time_ms, session.polling) == (BfdSessionState::Up, 300, false)
    });
    let up = up.count();
    if up == usize::from(peers) { Ok(status) } else { bail!("{up} of {peers} sessions are up at {socket}") }
}

/// Asks for the metrics as a scraper does.
fn scrape() -> Result<String> {
    let mut stream = UnixStream::connect(format!("{DIRECTORY}/margayd.sock"))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: margayd\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

/// Runs `margayctl` and returns how many bytes it printed and how long that took.
fn ctl(arguments: &[&str]) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let mut command = Command::new(Binaries::locate()?.path("margayctl")?);
    command.args(["--socket", &format!("{DIRECTORY}/margayd.sock")]).args(arguments).stdout(Stdio::piped());
    let mut child = command.env_remove("MARGAY_DATASTORE").spawn()?;
    let printed = std::io::copy(&mut child.stdout.take().context("a pipe")?, &mut std::io::sink())?;
    ensure!(child.wait()?.success(), "margayctl {arguments:?} failed");
    Ok((printed, began.elapsed()))
}

/// The most memory that a process has used so far, in MiB.
fn peak_mib(process: &Process) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

/// Reads what comes, and forgets it.
fn drain(stream: &TcpStream) -> Result<()> {
    let mut stream = stream.try_clone()?;
    stream.set_read_timeout(None)?;
    std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    Ok(())
}

#[test]
fn a_million_routes_load_and_go_while_fifty_sessions_of_3_s_and_their_bfd_stay_up() {
    const PEERS: u8 = 50;
    const PREFIXES: u32 = 1_000_000;
    isolation::isolated("a_million_routes_load_and_go_while_fifty_sessions_of_3_s_and_their_bfd_stay_up", || {
        let mut world = World::new(PEERS, 1)?;
        let feeder = other(1);
        let mut stream = feeder.connect(&world.theirs, DEVICE)?;
        drain(&stream)?;
        // Eight prefixes to an attribute set, as many as a table of the Internet has.
        let messages: Vec<u8> = (0..PREFIXES / 8)
            .flat_map(|n| feeder.announcement(FIRST + 8 * n..FIRST + 8 * (n + 1), (1000 + n % 50_000) as u16))
            .collect();
        let began = Instant::now();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Ends with the session.
                let mut written = stream.write_all(&messages);
                while written.is_ok() && !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(200));
                    written = stream.write_all(&keepalive());
                }
            });
            let loaded = load(&mut world, PREFIXES, began);
            stop.store(true, Ordering::Relaxed);
            loaded
        })?;
        stream.shutdown(Shutdown::Both)?;
        come_back(&mut world, feeder)
    });
}

/// The feeder's session has ended: it is back at once, with a tenth of its routes, while all of them are being withdrawn.
fn come_back(world: &mut World, feeder: Speaker) -> Result<()> {
    const KEPT: u32 = 100_000;
    let began = Instant::now();
    let mut stream = until(SETTLE, "the feeder is back", || {
        world.check()?;
        feeder.connect(&world.theirs, DEVICE)
    })?;
    let back = began.elapsed();
    drain(&stream)?;
    for n in (0..KEPT).step_by(1000) {
        stream.write_all(&feeder.announcement(FIRST + n..FIRST + n + 1000, 7))?;
    }
    until(SETTLE, "every peer has the tenth that is left", || {
        world.check()?;
        let behind = world.receivers.iter().position(|receiver| !receiver.holds(FIRST..FIRST + KEPT));
        behind.map_or(Ok(()), |peer| bail!("peer {} is behind", peer + 1))
    })?;
    let took = began.elapsed();
    let silence = world.nothing_flapped()?;
    println!("the feeder is back after {back:.1?}, all is told after {took:.1?}; longest silence {silence:?}");
    Ok(())
}

/// Waits until each peer has every route, and looks at the speaker meanwhile and then as operators do.
fn load(world: &mut World, prefixes: u32, began: Instant) -> Result<()> {
    let (mut looks, mut slowest) = (0, Duration::ZERO);
    until(Duration::from_secs(75), "every peer has every route", || {
        world.check()?;
        slowest = slowest.max(ctl(&["bgp", "peers"])?.1);
        scrape()?;
        looks += 1;
        let least = world.receivers.iter().map(|receiver| receiver.counts().0).min().unwrap_or_default();
        if least >= u64::from(prefixes) { Ok(()) } else { bail!("the last one has {least}") }
    })?;
    let took = began.elapsed();
    for receiver in &world.receivers {
        ensure!(receiver.counts() == (u64::from(prefixes), 0), "told {:?}", receiver.counts());
        ensure!(receiver.holds(FIRST..FIRST + prefixes), "told {prefixes} prefixes, but others");
    }
    let loading = world.nothing_flapped()?;
    println!(
        "{prefixes} routes to {} peers in {took:.1?}; longest silence {loading:?}; peak {} MiB; {looks} looks at the \
         peers, the slowest {slowest:?}",
        world.receivers.len(),
        peak_mib(&world.speaker)?
    );
    for question in [&["bgp", "routes"][..], &["bgp", "routes", "--received", "o1", "-o", "json"]] {
        let (printed, took) = ctl(question)?;
        println!("{question:?}: {} MB in {took:.1?}", printed / 1_000_000);
        ensure!(printed > 20 * u64::from(prefixes), "{printed} bytes for {prefixes} routes");
    }
    // A hold time more, so that what was late shows.
    let until_late = Instant::now() + Duration::from_secs(u64::from(HOLD_TIME) + 1);
    while Instant::now() < until_late {
        world.check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let silence = world.nothing_flapped()?;
    let peak = peak_mib(&world.speaker)?;
    println!("longest silence {silence:?}; peak {peak} MiB");
    ensure!(peak < 3 << 10, "{peak} MiB");
    Ok(())
}

#[test]
fn peers_that_flood_never_read_or_dribble_delay_nobody_else() {
    const PEERS: u8 = 20;
    const FLOOD: u32 = 20_000;
    /// The dribbler's route.
    const RARE: u32 = FIRST - 1;
    isolation::isolated("peers_that_flood_never_read_or_dribble_delay_nobody_else", || {
        let mut world = World::new(PEERS, 3)?;
        let [flooder, deaf, dribbler] = [1, 2, 3].map(other);
        let mut flood = flooder.connect(&world.theirs, DEVICE)?;
        drain(&flood)?;
        let mut silent = deaf.connect(&world.theirs, DEVICE)?;
        let mut dribble = dribbler.connect(&world.theirs, DEVICE)?;
        drain(&dribble)?;
        let chunks = || (0..FLOOD).step_by(100).map(|n| FIRST + n..FIRST + n + 100);
        let announced: Vec<u8> =
            chunks().zip(1000..).flat_map(|(chunk, as_)| flooder.announcement(chunk, as_)).collect();
        let withdrawn: Vec<u8> = chunks().flat_map(|chunk| flooder.withdrawal(chunk)).collect();

        let stop = AtomicBool::new(false);
        let rounds = std::thread::scope(|scope| -> Result<u32> {
            let flooding = scope.spawn(|| -> Result<u32> {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    flood.write_all(&withdrawn).context("the flood")?;
                    flood.write_all(&announced).context("the flood")?;
                    rounds += 1;
                }
                Ok(rounds)
            });
            let dribbling = scope.spawn(|| -> Result<()> {
                for byte in dribbler.announcement([RARE], 7) {
                    dribble.write_all(&[byte]).context("the dribble")?;
                    std::thread::sleep(Duration::from_millis(60));
                }
                Ok(())
            });
            let watched = (|| {
                let end = Instant::now() + Duration::from_secs(12);
                while Instant::now() < end {
                    world.check()?;
                    // Its hold time is not what ends it.
                    let _ = silent.write_all(&keepalive());
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok(())
            })();
            stop.store(true, Ordering::Relaxed);
            let rounds = flooding.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?;
            dribbling.join().map_err(|_| anyhow::anyhow!("the dribble panicked"))??;
            watched.and(rounds)
        })?;

        until(SETTLE, "every peer holds what the flood left and the dribbled route", || {
            world.check()?;
            let behind = world.receivers.iter().position(|receiver| !receiver.holds(RARE..FIRST + FLOOD));
            behind.map_or(Ok(()), |peer| bail!("peer {} is behind", peer + 1))
        })?;
        let silence = world.nothing_flapped()?;
        println!("{rounds} times {FLOOD} routes withdrawn and announced; longest silence {silence:?}");
        ensure!(rounds > 1, "no flood");
        let metrics = scrape()?;
        for (peer, up) in [("o1", 1), ("o2", 0), ("o3", 1)] {
            let line = format!("margay_bgp_peer_up{{peer=\"{peer}\"}} {up}.0\n");
            ensure!(metrics.contains(&line), "no {line}{metrics}");
        }
        let log = std::fs::read_to_string(format!("{DIRECTORY}/speaker.log"))?;
        ensure!(log.contains("send hold timer"), "who never reads was not let go for that:\n{log}");
        Ok(())
    });
}
