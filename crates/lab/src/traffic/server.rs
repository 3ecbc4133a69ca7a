use std::io::Write;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use nix::sys::socket::{Shutdown, shutdown};

use crate::Netns;

/// Servers in a namespace, IPv4 and IPv6, until dropped. A TCP server tells each client the address that it sees it by,
/// in one line, and closes; a UDP server sends every datagram back.
#[derive(Debug)]
pub struct Servers {
    sockets: Vec<OwnedFd>,
    stop: Arc<AtomicBool>,
}

impl Servers {
    /// Serves the ports in the namespace.
    pub fn start(netns: &Netns, tcp_ports: &[u16], udp_ports: &[u16]) -> Result<Servers> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut sockets = Vec::new();
        for &port in tcp_ports {
            let listener = netns.enter(|| {
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("listen on TCP {port}"))
            })?;
            sockets.push(OwnedFd::from(listener.try_clone()?));
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || serve_tcp(&listener, &stop));
        }
        for &port in udp_ports {
            let socket = netns
                .enter(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("bind UDP {port}")))?;
            sockets.push(OwnedFd::from(socket.try_clone()?));
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || serve_udp(&socket, &stop));
        }
        Ok(Servers { sockets, stop })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for socket in &self.sockets {
            // Wakes the thread; a UDP socket without a peer answers ENOTCONN, and wakes all the same.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool) {
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Acquire) {
            return;
        }
        // A client that has gone meanwhile is its own matter.
        if let Ok((mut stream, client)) = accepted {
            let _ = writeln!(stream, "{}", client.ip().to_canonical());
        }
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    loop {
        // Not `recv_from`, which panics at the datagram without a sender that a shutdown makes up.
        let _ = socket.peek(&mut buffer[..1]);
        if stop.load(Ordering::Acquire) {
            return;
        }
        if let Ok((len, client)) = socket.recv_from(&mut buffer) {
            // No route back for the moment looks like a lost packet to the client, which is what it counts.
            let _ = socket.send_to(&buffer[..len], client);
        }
    }
}
