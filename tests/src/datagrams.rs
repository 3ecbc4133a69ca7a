//! Datagrams that must not arrive: senders that begin before the pod has its network, and a receiver that counts.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use margay_lab::Netns;

/// Counts the datagrams that arrive at a port.
#[derive(Debug)]
pub struct Receiver {
    stop: Arc<AtomicBool>,
    counted: JoinHandle<std::io::Result<u64>>,
}

impl Receiver {
    /// Listens on `port` inside the namespace.
    pub fn listen(netns: &Netns, port: u16) -> Result<Receiver> {
        let socket = netns.enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let counted = std::thread::spawn(move || {
            let (mut count, mut buffer) = (0, [0; 64]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(_) => count += 1,
                    Err(error)
                        if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                    {
                        // What was sent before the stop has had its time to arrive.
                        if stopped.load(Ordering::Acquire) {
                            return Ok(count);
                        }
                    }
                    // A timed `recv` isn't taken up again by the kernel when the process was stopped and went on.
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        Ok(Receiver { stop, counted })
    }

    /// The number of datagrams that arrived.
    pub fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        Ok(self.counted.join().map_err(|_| anyhow!("the receiver panicked"))??)
    }
}

/// Sends from a namespace as soon as the kernel takes a datagram there, and goes on.
#[derive(Debug)]
pub struct Sender {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<Result<u64>>,
}

impl Sender {
    /// Begins to try at once, before there is a link or a route.
    pub fn start(netns: &Netns, to: SocketAddr) -> Result<Sender> {
        let socket = netns.enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sent = std::thread::spawn(move || {
            let (mut sent, deadline) = (0, Instant::now() + Duration::from_secs(30));
            while !(stopped.load(Ordering::Acquire) && sent > 0) {
                if socket.send_to(b"forbidden", to).is_ok() {
                    sent += 1;
                }
                if Instant::now() > deadline {
                    bail!("no datagram could be sent to {to} for 30 s");
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(sent)
        });
        Ok(Sender { stop, sent })
    }

    /// Stops once at least one datagram was sent; how many were.
    pub fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        self.sent.join().map_err(|_| anyhow!("the sender panicked"))?
    }
}
