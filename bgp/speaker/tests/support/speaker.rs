use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use margay_bgp_speaker::core::{
    AttributesView, ExportPolicy, FsmState, PathView, PeerConfig, PeerName, PeerView, RouteMatch, Rule, RuleAction,
    RuleSet, SetOperation, SpeakerConfig, StopKind,
};
use margay_bgp_speaker::{SpeakerHandle, SpeakerOptions, spawn};
use margay_net::{
    Asn, BestRoute, Cidr, FibBatch, FibChange, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource,
};
use tokio::sync::{mpsc, oneshot};

use super::{INTERFACE, Lab, OUR_ASN, PEER_ASN, so, within};

/// The name of the one peer.
pub const PEER: &str = "peer";

/// What was handed to felix, as a kernel would hold it.
#[derive(Debug, Default)]
pub struct Fib {
    pub routes: BTreeMap<Cidr, BestRoute>,
    /// Every withdrawal ever.
    pub withdrawn: BTreeSet<Cidr>,
    pub complete: bool,
}

/// Our speaker on a thread of its own in the lab's first namespace, with a felix that acknowledges every batch.
pub struct OurSpeaker {
    pub handle: SpeakerHandle,
    fib: Arc<Mutex<Fib>>,
    runtime: tokio::runtime::Runtime,
    crash: Option<oneshot::Sender<()>>,
    stall: mpsc::Sender<Duration>,
    thread: Option<JoinHandle<()>>,
}

impl OurSpeaker {
    /// Starts a speaker, tells it of the lab's link and of the prefixes that are ours, and configures it.
    pub fn start(lab: &Lab, config: SpeakerConfig, restarting: bool) -> OurSpeaker {
        let speaker = OurSpeaker::start_bare(lab, restarting);
        speaker.felix_says(FromFelix::Link(LinkState {
            interface: INTERFACE.to_owned(),
            running: true,
            addresses: vec![(lab.our_address(), lab.cable())],
        }));
        let announce = |prefix| LocalRouteChange::Announce(LocalRoute { prefix, source: LocalRouteSource::Block });
        speaker.felix_says(FromFelix::Local(lab.our_prefixes().into_iter().map(announce).collect()));
        speaker.configure(config);
        speaker
    }

    pub fn start_bare(lab: &Lab, restarting: bool) -> OurSpeaker {
        // The log of a test that fails is shown with it; another test may have set it up before.
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init();
        let fib = Arc::new(Mutex::new(Fib::default()));
        let (started, handle) = std::sync::mpsc::channel();
        let (crash, crashed) = oneshot::channel();
        let (stall, mut stalls) = mpsc::channel::<Duration>(1);
        let kernel = fib.clone();
        let thread = lab.ours.thread("speaker", move || {
            let runtime = runtime();
            runtime.block_on(async {
                let (fib, batches) = mpsc::channel(8);
                let (handle, task) = spawn(SpeakerOptions { restarting, seed: 1 }, fib);
                tokio::spawn(felix(handle.clone(), batches, kernel));
                tokio::spawn(async move {
                    while let Some(stall) = stalls.recv().await {
                        std::thread::sleep(stall);
                    }
                });
                started.send(handle).expect("the test waits for the handle");
                // The harness is also done when its end of the channel is gone.
                tokio::select! {
                    _ = crashed => {}
                    ended = task => ended.expect("the speaker's task"),
                }
            });
        });
        let handle = handle.recv().expect("the speaker starts");
        OurSpeaker { handle, fib, runtime: runtime(), crash: Some(crash), stall, thread: Some(thread) }
    }

    pub fn configure(&self, config: SpeakerConfig) {
        self.block_on(self.handle.configure(config)).expect("a running speaker and a valid configuration");
    }

    pub fn felix_says(&self, message: FromFelix) {
        self.block_on(self.handle.from_felix(message)).expect("a running speaker");
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Lets everything of the speaker stand still, as a machine does that is paused.
    pub fn stall(&self, span: Duration) {
        self.block_on(self.stall.send(span)).expect("a running speaker");
    }

    /// The one peer's state.
    pub fn peer(&self) -> PeerView {
        self.peer_named(PEER)
    }

    pub fn peer_named(&self, name: &str) -> PeerView {
        let peers = self.block_on(self.handle.peers()).expect("a running speaker");
        peers.into_iter().find(|peer| peer.name.as_str() == name).expect("a configured peer")
    }

    #[track_caller]
    pub fn wait_established(&self) -> PeerView {
        within(Duration::from_secs(15), "session established", || {
            let peer = self.peer();
            so(peer.state == FsmState::Established, || format!("{peer:?}")).map(|()| peer)
        })
    }

    /// What the peer announced and we took.
    pub fn received(&self) -> BTreeMap<Cidr, AttributesView> {
        let routes = self.block_on(self.handle.received(PeerName::from(PEER))).expect("a running speaker");
        let taken = |path: &PathView| path.rejected.is_none();
        routes
            .into_iter()
            .filter_map(|route| Some((route.prefix, route.paths.into_iter().find(taken)?.attributes)))
            .collect()
    }

    pub fn fib<T>(&self, look: impl FnOnce(&Fib) -> T) -> T {
        look(&self.fib.lock().expect("no test thread panics under the lock"))
    }

    pub fn withdraw_ours(&self, lab: &Lab) {
        let withdrawals = lab.our_prefixes().into_iter().map(LocalRouteChange::Withdraw).collect();
        self.felix_says(FromFelix::Local(withdrawals));
    }

    pub fn stop(mut self, kind: StopKind) {
        self.block_on(self.handle.stop(kind));
        self.join();
    }

    /// Ends the speaker as SIGKILL would: nothing is said, the kernel closes its sockets.
    pub fn crash(mut self) {
        self.crash = None;
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the speaker's thread");
        }
    }
}

impl Drop for OurSpeaker {
    fn drop(&mut self) {
        self.crash = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has failed the test already, or will where the test asks.
            let _ = thread.join();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn felix(handle: SpeakerHandle, mut batches: mpsc::Receiver<FibBatch>, fib: Arc<Mutex<Fib>>) {
    while let Some(batch) = batches.recv().await {
        {
            let mut fib = fib.lock().expect("no test thread panics under the lock");
            fib.complete |= batch.complete;
            for change in batch.changes {
                match change {
                    FibChange::Set(route) => {
                        fib.routes.insert(route.prefix, route);
                    }
                    FibChange::Withdraw(prefix) => {
                        fib.routes.remove(&prefix);
                        fib.withdrawn.insert(prefix);
                    }
                }
            }
        }
        if handle.from_felix(FromFelix::Applied { serial: batch.serial }).await.is_err() {
            return;
        }
    }
}

/// Our side of the session: 3 seconds of hold time, MED 55 and the community 64512:200 on all that is announced.
pub fn config(lab: &Lab) -> SpeakerConfig {
    let mut speaker = SpeakerConfig::new(Asn(OUR_ASN), Ipv4Addr::new(192, 0, 2, 1));
    speaker.peers.insert(PeerName::from(PEER), peer_config(lab));
    speaker
}

pub fn peer_config(lab: &Lab) -> PeerConfig {
    let mut peer = PeerConfig::new(lab.peer_address(), Asn(PEER_ASN));
    peer.hold_time = Duration::from_secs(3);
    peer.connect_retry = Duration::from_secs(1);
    peer.export = ExportPolicy(RuleSet {
        rules: vec![Rule {
            matches: RouteMatch::default(),
            action: RuleAction::Accept,
            set: vec![SetOperation::Med(55), SetOperation::AddCommunity(OUR_ASN << 16 | 200)],
        }],
        accept_by_default: false,
    });
    peer
}
