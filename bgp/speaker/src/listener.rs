use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use margay_bgp_core::{ListenPeer, Secret};
use margay_net::Cidr;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::socket;

/// Between two attempts to listen on a port that is taken.
const RETRY: Duration = Duration::from_secs(3);
/// After an accept that failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the core wants to be listened for.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenPlan {
    /// 0: don't listen.
    pub(crate) port: u16,
    /// Empty: the wildcard address of each family.
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) peers: Vec<ListenPeer>,
}

/// A connection that came in.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// Whether the speaker can be connected to. Sessions that it opens itself don't depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ListenerState {
    /// One socket per configured address, or per family where there is none; none before the first configuration and
    /// where the listen port is 0.
    pub sockets: Vec<ListenSocketState>,
}

/// One listening socket, or the wish for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenSocketState {
    pub address: SocketAddr,
    pub status: ListenStatus,
}

/// Whether a socket listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenStatus {
    Listening,
    /// It can't be had, in words, and will be tried again.
    Failed {
        reason: String,
        retry_at: SystemTime,
    },
}

impl ListenerState {
    /// Whether every socket that is wanted listens.
    pub fn is_listening(&self) -> bool {
        self.sockets.iter().all(|socket| socket.status == ListenStatus::Listening)
    }
}

impl fmt::Display for ListenSocketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            ListenStatus::Listening => write!(f, "listening on {}", self.address),
            ListenStatus::Failed { reason, retry_at } => {
                let wait = retry_at.duration_since(SystemTime::now()).unwrap_or_default().as_secs_f32();
                write!(f, "not listening on {}: {reason}; next attempt in {wait:.0} s", self.address)
            }
        }
    }
}

/// Listens as `plan` says until its sender is gone.
pub(crate) async fn run(
    mut plan: watch::Receiver<ListenPlan>,
    accepted: mpsc::Sender<Accepted>,
    state: watch::Sender<ListenerState>,
) {
    let mut slots: BTreeMap<SocketAddr, Slot> = BTreeMap::new();
    loop {
        let wanted = plan.borrow_and_update().clone();
        let addresses = wanted.addresses();
        slots.retain(|address, _| addresses.contains(address));
        for address in addresses {
            update(&mut slots, address, &wanted);
        }
        let sockets = slots.iter().map(|(&address, slot)| slot.state(address)).collect();
        state.send_replace(ListenerState { sockets });

        let retry = slots.values().filter_map(Slot::retry_at).min();
        loop {
            let incoming = tokio::select! {
                changed = plan.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = sleep_until(retry) => break,
                incoming = accept(&mut slots) => incoming,
            };
            if let Some(incoming) = incoming.and_then(|(stream, remote)| prepare(stream, remote, &wanted))
                && accepted.send(incoming).await.is_err()
            {
                return;
            }
        }
    }
}

impl ListenPlan {
    fn addresses(&self) -> BTreeSet<SocketAddr> {
        match (self.port, self.addresses.is_empty()) {
            (0, _) => BTreeSet::new(),
            (port, true) => socket::wildcards(port).into(),
            (port, false) => self.addresses.iter().map(|&address| (address, port).into()).collect(),
        }
    }

    /// Finds the peer, or else the longest range, that an address belongs to.
    fn peer(&self, remote: IpAddr) -> Option<&ListenPeer> {
        let remote = remote.to_canonical();
        let candidates = self.peers.iter().filter(|peer| peer.remote.contains(remote));
        candidates.max_by_key(|peer| peer.remote.len())
    }
}

/// A wanted socket.
#[derive(Debug)]
struct Slot {
    socket: Result<Socket, Failure>,
}

#[derive(Debug)]
struct Socket {
    listener: TcpListener,
    keys: BTreeMap<Cidr, Secret>,
    accept_fails: bool,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    retry_at: Instant,
    retry_at_wall: SystemTime,
}

impl Slot {
    fn state(&self, address: SocketAddr) -> ListenSocketState {
        let status = match &self.socket {
            Ok(_) => ListenStatus::Listening,
            Err(failure) => ListenStatus::Failed { reason: failure.reason.clone(), retry_at: failure.retry_at_wall },
        };
        ListenSocketState { address, status }
    }

    fn retry_at(&self) -> Option<Instant> {
        self.socket.as_ref().err().map(|failure| failure.retry_at)
    }
}

/// Opens or retries the socket as needed, and brings its keys up to date.
fn update(slots: &mut BTreeMap<SocketAddr, Slot>, address: SocketAddr, plan: &ListenPlan) {
    let failed_before = match slots.get(&address) {
        Some(Slot { socket: Ok(_) }) => None,
        Some(Slot { socket: Err(failure) }) if failure.retry_at > Instant::now() => return,
        Some(Slot { socket: Err(failure) }) => Some(Some(failure.reason.clone())),
        None => Some(None),
    };
    if let Some(failed_before) = failed_before {
        slots.insert(address, Slot { socket: open(address, failed_before.as_deref()) });
    }
    if let Some(Slot { socket: Ok(socket) }) = slots.get_mut(&address) {
        update_keys(socket, address, plan);
    }
}

fn open(address: SocketAddr, failed_before: Option<&str>) -> Result<Socket, Failure> {
    match socket::listen(address) {
        Ok(listener) => {
            info!(%address, "listening for BGP connections");
            Ok(Socket { listener, keys: BTreeMap::new(), accept_fails: false })
        }
        Err(error) => {
            let reason = match error.kind() {
                io::ErrorKind::AddrInUse => format!("port {} is taken by another process", address.port()),
                io::ErrorKind::AddrNotAvailable => format!("{} is no address of this node", address.ip()),
                _ => error.to_string(),
            };
            if failed_before != Some(reason.as_str()) {
                warn!(%address, reason, retry_s = RETRY.as_secs(), "can't listen: only sessions opened from here come up");
            }
            Err(Failure { reason, retry_at: Instant::now() + RETRY, retry_at_wall: SystemTime::now() + RETRY })
        }
    }
}

fn update_keys(socket: &mut Socket, address: SocketAddr, plan: &ListenPlan) {
    let wanted: BTreeMap<Cidr, &Secret> = plan
        .peers
        .iter()
        .filter(|peer| peer.remote.addr().is_ipv6() == address.is_ipv6())
        .filter_map(|peer| Some((peer.remote, peer.password.as_ref()?)))
        .collect();
    let gone: Vec<Cidr> = socket.keys.keys().filter(|peer| !wanted.contains_key(peer)).copied().collect();
    for peer in gone {
        if let Err(error) = socket::set_listen_password(&socket.listener, peer, None) {
            warn!(remote = %peer, %error, "can't remove the TCP-MD5 key");
        }
        socket.keys.remove(&peer);
    }
    for (peer, password) in wanted {
        if socket.keys.get(&peer) == Some(password) {
            continue;
        }
        match socket::set_listen_password(&socket.listener, peer, Some(password)) {
            Ok(()) => {
                socket.keys.insert(peer, password.clone());
            }
            Err(error) => warn!(remote = %peer, %error, "can't set the TCP-MD5 key: the peer can't connect"),
        }
    }
}

/// Accepts a connection; cancel safe. `None`: one was lost on its way.
async fn accept(slots: &mut BTreeMap<SocketAddr, Slot>) -> Option<(TcpStream, SocketAddr)> {
    let (address, accepted) = std::future::poll_fn(|context| {
        let ready = slots.iter().find_map(|(&address, slot)| {
            let listener = &slot.socket.as_ref().ok()?.listener;
            match listener.poll_accept(context) {
                Poll::Ready(accepted) => Some((address, accepted)),
                Poll::Pending => None,
            }
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    let Some(Slot { socket: Ok(socket) }) = slots.get_mut(&address) else { return None };
    match accepted {
        Ok(incoming) => {
            socket.accept_fails = false;
            Some(incoming)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => None,
        Err(error) => {
            if !std::mem::replace(&mut socket.accept_fails, true) {
                warn!(%address, %error, "can't accept connections");
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn prepare(stream: TcpStream, remote: SocketAddr, plan: &ListenPlan) -> Option<Accepted> {
    let prepared = socket::prepare_accepted(&stream, plan.peer(remote.ip())).and_then(|()| stream.local_addr());
    match prepared {
        Ok(local) => Some(Accepted { stream, local, remote }),
        Err(error) => {
            info!(%remote, %error, "connection dropped: its socket options can't be set");
            None
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
