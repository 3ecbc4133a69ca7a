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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpSocket;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::socket::Dial;

    struct Bench {
        plan: watch::Sender<ListenPlan>,
        accepted: mpsc::Receiver<Accepted>,
        state: watch::Receiver<ListenerState>,
        task: JoinHandle<()>,
        port: u16,
    }

    impl Bench {
        /// Listens on these hosts of 127.0.0.0/8 for these peers.
        async fn new(hosts: &[u8], peers: Vec<ListenPeer>) -> Bench {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let addresses = hosts.iter().map(|&host| IpAddr::from([127, 0, 0, host])).collect();
            let (plan, plan_rx) = watch::channel(ListenPlan { port, addresses, peers });
            let (accepted, accepted_rx) = mpsc::channel(8);
            let (state, state_rx) = watch::channel(ListenerState::default());
            let task = tokio::spawn(run(plan_rx, accepted, state));
            let mut bench = Bench { plan, accepted: accepted_rx, state: state_rx, task, port };
            bench.state.wait_for(|state| !state.sockets.is_empty()).await.unwrap();
            bench
        }

        /// Connects from one host to another; the error is that of the attempt.
        async fn dial(&self, from: u8, to: u8, password: Option<&str>) -> Result<TcpStream, String> {
            let dial = Dial {
                remote: (Ipv4Addr::new(127, 0, 0, to), self.port).into(),
                source: Some(Ipv4Addr::new(127, 0, 0, from).into()),
                interface: None,
                ttl: None,
                min_ttl: None,
                password: password.map(Secret::new),
            };
            // A segment with a wrong key is dropped and never answered.
            match tokio::time::timeout(Duration::from_millis(1500), socket::connect(dial)).await {
                Ok(connected) => connected,
                Err(_) => Err("no answer".to_owned()),
            }
        }
    }

    fn peer(remote: &str, password: Option<&str>, min_ttl: Option<u8>) -> ListenPeer {
        ListenPeer { remote: remote.parse().unwrap(), password: password.map(Secret::new), ttl: Some(77), min_ttl }
    }

    #[tokio::test]
    async fn only_the_chosen_addresses_are_listened_on_and_the_choice_changes_live() {
        let mut bench = Bench::new(&[2, 3], vec![]).await;
        let _kept = bench.dial(9, 3, None).await.unwrap();
        let accepted = bench.accepted.recv().await.unwrap();
        assert_eq!(accepted.local.ip(), IpAddr::from([127, 0, 0, 3]));
        assert!(bench.dial(9, 4, None).await.unwrap_err().contains("refused"));

        bench
            .plan
            .send_modify(|plan| plan.addresses = [IpAddr::from([127, 0, 0, 4]), "192.0.2.1".parse().unwrap()].into());
        let state = bench
            .state
            .wait_for(|state| state.sockets.iter().any(|socket| socket.address.ip() == IpAddr::from([127, 0, 0, 4])))
            .await;
        let failed =
            state.unwrap().sockets.iter().map(ToString::to_string).find(|words| words.contains("not listening"));
        assert!(failed.unwrap().contains("192.0.2.1 is no address of this node"));
        let _other = bench.dial(9, 4, None).await.unwrap();
        assert!(bench.dial(9, 3, None).await.is_err());
        bench.task.abort();
    }

    #[tokio::test]
    async fn a_range_has_its_key_and_a_longer_prefix_in_it_another() {
        let peers = vec![peer("127.0.0.0/26", Some("range"), None), peer("127.0.0.7/32", Some("host"), None)];
        let mut bench = Bench::new(&[200], peers).await;
        for (from, password, connects) in [
            (5, Some("range"), true),
            (5, None, false),
            (5, Some("host"), false),
            (7, Some("host"), true),
            (7, Some("range"), false),
            (100, None, true),
        ] {
            let connected = bench.dial(from, 200, password).await;
            assert_eq!(connected.is_ok(), connects, "from {from} with {password:?}: {connected:?}");
        }
        // A changed key is the one in force.
        bench.plan.send_modify(|plan| plan.peers[0].password = Some(Secret::new("new")));
        let changed = tokio::time::timeout(Duration::from_secs(10), async {
            while bench.dial(5, 200, Some("new")).await.is_err() {}
        });
        changed.await.unwrap();
        let from = |accepted: Option<Accepted>| accepted.unwrap().remote.ip();
        assert_eq!(from(bench.accepted.recv().await), IpAddr::from([127, 0, 0, 5]));
        bench.task.abort();
    }

    #[tokio::test]
    async fn an_accepted_connection_gets_the_ttl_of_the_longest_prefix() {
        let mut narrow = peer("127.0.0.8/29", None, Some(254));
        narrow.ttl = Some(255);
        let mut bench = Bench::new(&[200], vec![peer("127.0.0.0/8", None, None), narrow]).await;
        for (from, ttl) in [(9, 255), (99, 77)] {
            let _dialled = bench.dial(from, 200, None).await.unwrap();
            let accepted = bench.accepted.recv().await.unwrap();
            assert_eq!(accepted.stream.ttl().unwrap(), ttl);
        }
        // GTSM: packets that arrive with a lower TTL are dropped.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.10:0".parse().unwrap()).unwrap();
        let far = socket.connect((Ipv4Addr::new(127, 0, 0, 200), bench.port).into()).await.unwrap();
        far.set_ttl(64).unwrap();
        let mut near = bench.accepted.recv().await.unwrap().stream;
        far.try_write(b"dropped").unwrap();
        let read = tokio::time::timeout(Duration::from_millis(300), near.read_u8()).await;
        assert!(read.is_err(), "nothing arrives");
        far.set_ttl(255).unwrap();
        tokio::time::timeout(Duration::from_secs(10), near.read_u8()).await.unwrap().unwrap();
        bench.task.abort();
    }
}
