//! `margay-lab`: the demo cluster as a command. `cargo demo` builds and runs it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use margay_lab::bench::{self, BenchOptions, DeviceKind, Limits, Programs, Shape};
use margay_lab::bird::Fault;
use margay_lab::demo::{self, DemoOptions};
use margay_lab::figures::{self, FiguresOptions};
use margay_lab::isolation::{self, Lifetime};
use margay_lab::state::{self, KeptLab};
use margay_lab::{Binaries, DatastoreKind, Families, Lab, LabOptions, Topology, manifests, places};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

#[derive(Parser)]
#[command(name = "margay-lab", about = "A Margay cluster out of network namespaces on this machine", version)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring up two racks with four nodes and eight pods, and check what they promise.
    Demo(DemoArguments),
    /// Bring up routers and nodes without daemons, and hold them until stopped: to try another speaker.
    Fabric(FabricArguments),
    /// Run a command at a place of the lab that was left up: a node, a pod, a router, or `hub`.
    Exec(Place),
    /// Measure what pods and daemons cost in the demo's cluster.
    Figures(FiguresArguments),
    /// Measure BGP speakers side by side: time, processor time and memory of routes' way through each.
    BenchBgp(BenchArguments),
    /// Take down the lab that was left up.
    Down,
    /// Write the example resources to a folder.
    Manifests { folder: PathBuf },
    #[command(hide = true)]
    Enter(Place),
    #[command(hide = true)]
    BenchNull { address: IpAddr, asn: u32, receivers: Vec<IpAddr> },
}

#[derive(Parser)]
struct DemoArguments {
    /// Leave the lab up when the checks are done.
    #[arg(long)]
    keep: bool,
    /// Build a mistake in, to see the checks find it.
    #[arg(long = "break", value_name = "FAULT")]
    fault: Option<FaultName>,
    /// Where the cluster keeps its resources.
    #[arg(long, value_enum, default_value = "sqlite")]
    datastore: DatastoreName,
    /// The address families of fabric, nodes and pods.
    #[arg(long, value_enum, default_value = "ipv4")]
    families: FamiliesName,
    /// The folder with the resources to apply.
    #[arg(long, default_value = "config/examples")]
    config: PathBuf,
}

#[derive(Parser)]
struct FabricArguments {
    #[arg(long, value_enum, default_value = "sqlite")]
    datastore: DatastoreName,
    #[arg(long, value_enum, default_value = "ipv4")]
    families: FamiliesName,
}

#[derive(Parser)]
struct FiguresArguments {
    /// The folder with the resources to apply.
    #[arg(long, default_value = "config/examples")]
    config: PathBuf,
    /// ADDs and DELs one after the other.
    #[arg(long, default_value_t = 100)]
    calls: usize,
    /// ADDs at once.
    #[arg(long, default_value_t = 50)]
    burst: usize,
    /// How many times so many at once.
    #[arg(long, default_value_t = 5)]
    bursts: usize,
    /// New pods to reach from the other rack, of each kind.
    #[arg(long, default_value_t = 20)]
    reached: usize,
    /// Pods on one node when the daemons' memory is looked at again.
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// Where the CNI project's ptp and host-local are, to call them in turns with ours.
    #[arg(long, default_value = "/usr/lib/cni")]
    plugins: PathBuf,
    #[arg(short, long, value_enum, default_value = "markdown")]
    output: Format,
}

#[derive(Parser)]
struct BenchArguments {
    /// What to measure: 1x100k, 1x100k-ipv6, 1x1M, 10x100k-same, 100x1k, fanout-50x100k, rr-500; all if not given.
    #[arg(long, value_delimiter = ',', default_values_t = Shape::ALL)]
    shapes: Vec<Shape>,
    /// Whom to measure: null, margay, bird2, frr, gobgp, openbgpd; all if not given.
    #[arg(long, value_delimiter = ',', default_values_t = DeviceKind::ALL)]
    devices: Vec<DeviceKind>,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// A device whose phases take longer together, in seconds, runs no more in that shape.
    #[arg(long, default_value_t = 60)]
    once: u64,
    /// Multiplies prefixes and, where there are many, peers.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The longest that a phase may take, in seconds.
    #[arg(long, default_value_t = 180)]
    limit_seconds: u64,
    /// A device that takes more memory is ended.
    #[arg(long, default_value_t = 8192)]
    limit_mib: u64,
    /// The program that runs our speaker; the release build's example `bench_speaker` if not given.
    #[arg(long)]
    speaker: Option<PathBuf>,
    /// Write bgp.md, bgp.json and bgp.svg to this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value = "markdown")]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Markdown,
    Json,
}

#[derive(Parser)]
struct Place {
    place: String,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FaultName {
    /// The ToRs of one rack don't announce the pods' pool to the spines.
    TorExport,
}

#[derive(Clone, Copy, ValueEnum)]
enum DatastoreName {
    Sqlite,
    Etcd,
}

#[derive(Clone, Copy, ValueEnum)]
enum FamiliesName {
    Ipv4,
    Ipv6,
    Dual,
}

impl From<DatastoreName> for DatastoreKind {
    fn from(name: DatastoreName) -> DatastoreKind {
        match name {
            DatastoreName::Sqlite => DatastoreKind::Sqlite,
            DatastoreName::Etcd => DatastoreKind::Etcd,
        }
    }
}

impl From<FamiliesName> for Families {
    fn from(name: FamiliesName) -> Families {
        match name {
            FamiliesName::Ipv4 => Families::V4,
            FamiliesName::Ipv6 => Families::V6,
            FamiliesName::Dual => Families::Dual,
        }
    }
}

/// What process 1 writes to its stdout when the checks are done and the lab is to stay: this, then 0 or 1.
const DONE: u8 = 1;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Task::Demo(arguments) if isolation::inside() => demo_inside(&arguments),
        Task::Demo(arguments) => own_a_lab(arguments.keep),
        Task::Fabric(arguments) if isolation::inside() => fabric_inside(&arguments),
        Task::Fabric(_) => own_a_lab(false),
        Task::Figures(arguments) if isolation::inside() => figures_inside(&arguments),
        Task::BenchBgp(arguments) if isolation::inside() => bench_inside(&arguments),
        Task::Figures(_) | Task::BenchBgp(_) => own_a_lab(false),
        Task::BenchNull { address, asn, receivers } => bench::run_null(address, asn, &receivers).map(|()| true),
        Task::Exec(place) => kept_lab().and_then(|lab| lab.exec(&place.place, &place.command)).map(|()| true),
        Task::Down => down(),
        Task::Manifests { folder } => write_manifests(&folder),
        Task::Enter(place) => places::exec(&place.place, &place.command).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("margay-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Process 1 of the lab.
fn demo_inside(arguments: &DemoArguments) -> Result<bool> {
    isolation::settle()?;
    let options = DemoOptions {
        config: arguments.config.clone(),
        families: arguments.families.into(),
        datastore: arguments.datastore.into(),
        fault: arguments.fault.map(|FaultName::TorExport| Fault::TorExport),
    };
    let demo = demo::run(&options);
    let passed = demo.conclude();
    if arguments.keep {
        demo.print_what_to_try();
        let mut stdout = std::io::stdout();
        stdout.write_all(&[DONE, u8::from(!passed)])?;
        stdout.flush()?;
        hold();
    }
    Ok(passed)
}

/// Process 1 of a lab without daemons.
fn fabric_inside(arguments: &FabricArguments) -> Result<bool> {
    isolation::settle()?;
    let topology = Topology::default().with_families(arguments.families.into());
    let lab = Lab::fabric(LabOptions::new(topology).datastore(arguments.datastore.into()))?;
    println!("up: {}", lab.logs().into_keys().collect::<Vec<_>>().join(" "));
    hold()
}

/// Process 1 of the labs in which figures are taken.
fn figures_inside(arguments: &FiguresArguments) -> Result<bool> {
    isolation::settle()?;
    let options = FiguresOptions {
        config: arguments.config.clone(),
        calls: arguments.calls,
        burst: arguments.burst,
        bursts: arguments.bursts,
        reached: arguments.reached,
        pods: arguments.pods,
        plugins: arguments.plugins.clone(),
    };
    let figures = figures::run(&options)?;
    print(arguments.output, figures.markdown(), &figures)
}

/// Process 1 of the namespaces in which speakers are measured.
fn bench_inside(arguments: &BenchArguments) -> Result<bool> {
    isolation::settle()?;
    let speaker = match &arguments.speaker {
        Some(path) => path.clone(),
        None => Binaries::locate()?.dir().join("examples/bench_speaker"),
    };
    let options = BenchOptions {
        shapes: arguments.shapes.clone(),
        devices: arguments.devices.clone(),
        runs: arguments.runs,
        once: Duration::from_secs(arguments.once),
        scale: arguments.scale,
        seed: arguments.seed,
        limits: Limits { time: Duration::from_secs(arguments.limit_seconds), memory_mib: arguments.limit_mib },
        programs: Programs { lab: std::env::current_exe()?, speaker },
    };
    let report = bench::run(&options)?;
    if let Some(folder) = &arguments.out {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let json = serde_json::to_string_pretty(&report)? + "\n";
        for (name, text) in [("bgp.md", report.markdown()), ("bgp.json", json), ("bgp.svg", report.svg())] {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    }
    print(arguments.output, report.markdown(), &report)?;
    Ok(report.is_complete())
}

fn print(format: Format, markdown: String, value: &impl serde::Serialize) -> Result<bool> {
    let text = match format {
        Format::Markdown => markdown,
        Format::Json => serde_json::to_string_pretty(value)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(true)
}

/// Stays until killed; what the caller holds stays up with it.
fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

/// The owner of the lab: starts it, passes on what it prints, and ends it when asked to stop.
fn own_a_lab(keep: bool) -> Result<bool> {
    isolation::require_root()?;
    let record = state::record();
    if keep && KeptLab::read(&record)?.is_some() {
        bail!("a lab is up already; take it down first: cargo demo -- down");
    }
    let lifetime = if keep { Lifetime::UntilKept } else { Lifetime::Owner };
    // Before the lab starts, so that no signal finds it without an owner who listens.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let mut lab = isolation::command(&std::env::current_exe()?, lifetime)
        .args(std::env::args_os().skip(1))
        .stdout(if keep { Stdio::piped() } else { Stdio::inherit() })
        .spawn()
        .context("start unshare (of util-linux)")?;
    let stopped = end_on_signal(signals, &lab)?;
    // The lifeline must stay open until the lab has ended by itself or is kept; `wait` would close it.
    let lifeline = lab.stdin.take().context("the lab has no lifeline")?;
    let done = if keep { pass_on(&mut lab)? } else { None };
    let passed = match done {
        Some(passed) => {
            KeptLab::of_supervisor(lab.id())?.write(&record)?;
            isolation::keep(lifeline)?;
            passed
        }
        None => lab.wait()?.success(),
    };
    match stopped.load(Ordering::SeqCst) {
        0 => Ok(passed),
        signal => {
            eprintln!("\nstopped; the lab is gone");
            std::process::exit(128 + signal);
        }
    }
}

/// Ends the lab on the first signal, and tells which one it was; 0 while there was none.
fn end_on_signal(mut signals: Signals, lab: &Child) -> Result<Arc<AtomicI32>> {
    let supervisor = Pid::from_raw(i32::try_from(lab.id())?);
    let stopped = Arc::new(AtomicI32::new(0));
    let tell = Arc::clone(&stopped);
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tell.store(signal, Ordering::SeqCst);
            // An error means that the lab has ended already.
            let _ = kill(supervisor, Signal::SIGKILL);
        }
    });
    Ok(stopped)
}

/// Copies what the lab prints until it is done; none if it ended instead.
fn pass_on(lab: &mut Child) -> Result<Option<bool>> {
    let mut from = lab.stdout.take().context("the lab has no stdout")?;
    let mut buffer = [0; 4096];
    let mut done = false;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(None);
        }
        for &byte in &buffer[..count] {
            if done {
                return Ok(Some(byte == 0));
            }
            done = byte == DONE;
            if !done {
                std::io::stdout().write_all(&[byte])?;
            }
        }
        std::io::stdout().flush()?;
    }
}

fn kept_lab() -> Result<KeptLab> {
    isolation::require_root()?;
    KeptLab::read(&state::record())?.context("no lab is up; bring one up with: cargo demo -- --keep")
}

fn down() -> Result<bool> {
    isolation::require_root()?;
    let record = state::record();
    match KeptLab::read(&record)? {
        Some(lab) => {
            lab.end(&record)?;
            println!("the lab is gone");
        }
        None => println!("no lab is up"),
    }
    Ok(true)
}

fn write_manifests(folder: &std::path::Path) -> Result<bool> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text) in manifests::examples() {
        std::fs::write(folder.join(&name), text).with_context(|| name.clone())?;
    }
    Ok(true)
}
