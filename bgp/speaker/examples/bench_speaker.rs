//! The speaker as a process of its own, for benchmarks: it waits for its peers' connections, accepts and announces
//! everything, and drops what it would tell the kernel.
//!
//! ```text
//! bench_speaker ASN ROUTER-ID INTERFACE [ADDRESS/LENGTH...] [PEER=ASN...]
//! ```
//!
//! `ADDRESS/LENGTH` are its own addresses on `INTERFACE`, where all peers are. Peers of its own AS are clients of a route
//! reflector. It runs until killed.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use margay_bgp_speaker::core::{PeerConfig, PeerName, SpeakerConfig};
use margay_bgp_speaker::{SpeakerOptions, spawn_thread};
use margay_net::{Asn, Cidr, FromFelix, LinkState};
use tokio::sync::mpsc;

const USAGE: &str = "usage: bench_speaker ASN ROUTER-ID INTERFACE [ADDRESS/LENGTH...] [PEER=ASN...]";
struct Arguments {
    asn: Asn,
    router_id: Ipv4Addr,
    interface: String,
    addresses: Vec<(IpAddr, Cidr)>,
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
        let router_id = words.next()?.parse().ok()?;
        let interface = words.next()?;
        let (mut addresses, mut peers) = (Vec::new(), Vec::new());
        for word in words {
            if let Some((peer, asn)) = word.split_once('=') {
                peers.push((peer.parse().ok()?, Asn(asn.parse().ok()?)));
            } else {
                let (address, length) = word.split_once('/')?;
                let address: IpAddr = address.parse().ok()?;
                addresses.push((address, Cidr::truncated(address, length.parse().ok()?).ok()?));
            }
        }
        Some(Arguments { asn, router_id, interface, addresses, peers })
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    // As the daemon has it, without a kernel's table to fill.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (fib, _) = mpsc::channel(1);
        let (handle, task) = spawn_thread(SpeakerOptions { restarting: false, seed: 1 }, fib)?;
        let link =
            LinkState { interface: arguments.interface.clone(), running: true, addresses: arguments.addresses.clone() };
        handle.from_felix(FromFelix::Link(link)).await?;
        handle.from_felix(FromFelix::Local(Vec::new())).await?;
        handle.configure(config(arguments)).await?;
        task.await?;
        Ok(())
    })
}

fn config(arguments: &Arguments) -> SpeakerConfig {
    let mut speaker = SpeakerConfig::new(arguments.asn, arguments.router_id);
    for &(remote, asn) in &arguments.peers {
        let mut peer = PeerConfig::new(remote, asn);
        peer.passive = true;
        peer.hold_time = Duration::from_secs(3600);
        peer.route_reflector_client = asn == arguments.asn;
        speaker.peers.insert(PeerName::new(remote.to_string()), peer);
    }
    speaker
}
