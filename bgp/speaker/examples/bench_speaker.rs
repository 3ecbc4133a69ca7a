//! The speaker as a process of its own, for benchmarks: it waits for its peers' connections, accepts and announces
//! everything, and drops what it would tell the kernel.
//!
//! ```text
//! bench_speaker ASN ADDRESS/LENGTH INTERFACE PEER=ASN...
//! ```
//!
//! `ADDRESS/LENGTH` is its own address on `INTERFACE`, where all peers are. It runs until killed.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use margay_bgp_speaker::core::{PeerConfig, PeerName, SpeakerConfig};
use margay_bgp_speaker::{SpeakerHandle, SpeakerOptions, spawn};
use margay_net::{Asn, Cidr, FibBatch, FromFelix, LinkState};
use tokio::sync::mpsc;

const USAGE: &str = "usage: bench_speaker ASN ADDRESS/LENGTH INTERFACE PEER=ASN...";
/// Batches that the daemon's routing agent may have waiting.
const FIB_QUEUE: usize = 64;

struct Arguments {
    asn: Asn,
    address: Ipv4Addr,
    subnet: Cidr,
    interface: String,
    peers: Vec<(IpAddr, Asn)>,
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench_speaker: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
        let asn = Asn(words.next()?.parse().ok()?);
        let own = words.next()?;
        let (address, length) = own.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let subnet = Cidr::truncated(address.into(), length.parse().ok()?).ok()?;
        let interface = words.next()?;
        let peer = |word: String| {
            let (address, asn) = word.split_once('=')?;
            Some((address.parse().ok()?, Asn(asn.parse().ok()?)))
        };
        let peers = words.map(peer).collect::<Option<Vec<_>>>()?;
        Some(Arguments { asn, address, subnet, interface, peers })
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // As the daemon has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (fib, batches) = mpsc::channel(FIB_QUEUE);
        let (handle, task) = spawn(SpeakerOptions { restarting: false, seed: 1 }, fib);
        tokio::spawn(drop_routes(handle.clone(), batches));
        let link = LinkState {
            interface: arguments.interface.clone(),
            running: true,
            addresses: vec![(arguments.address.into(), arguments.subnet)],
        };
        handle.from_felix(FromFelix::Link(link)).await?;
        handle.from_felix(FromFelix::Local(Vec::new())).await?;
        handle.configure(config(arguments)).await?;
        task.await?;
        Ok(())
    })
}

fn config(arguments: &Arguments) -> SpeakerConfig {
    let mut speaker = SpeakerConfig::new(arguments.asn, arguments.address);
    for &(remote, asn) in &arguments.peers {
        let mut peer = PeerConfig::new(remote, asn);
        peer.passive = true;
        peer.hold_time = Duration::from_secs(240);
        speaker.peers.insert(PeerName::new(remote.to_string()), peer);
    }
    speaker
}

/// A routing agent that is always done at once.
async fn drop_routes(speaker: SpeakerHandle, mut batches: mpsc::Receiver<FibBatch>) {
    while let Some(batch) = batches.recv().await {
        if speaker.from_felix(FromFelix::Applied { serial: batch.serial }).await.is_err() {
            return;
        }
    }
}
