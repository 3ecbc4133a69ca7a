//! The composition root of `margayd node`: nothing else starts long-lived tasks of the daemon.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use margay_api::kinds::{Node, NodeSpec};
use margay_bgp_core::{Drain, SpeakerConfig, StopKind};
use margay_bgp_speaker::{SpeakerHandle, SpeakerOptions};
use margay_felix_agent::{AgentOptions, FelixHandle, ToFelix};
use margay_ipam_client::IpamClient;
use margay_local_api::BFD_SOCKET;
use rand::TryRngCore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Exit;
use crate::actor::{Actor, Message};
use crate::api::{self, Api, BgpApi, BgpHost};
use crate::bfd;
use crate::bgp_events::EventLog;
use crate::cluster::Watched;
use crate::cni::{Cni, Notes};
use crate::drain_record::DrainRecord;
use crate::metrics;
use crate::node_status::Reporter;
use crate::object_status;
use crate::options::NodeOptions;
use crate::registration::Registrar;
use crate::restart;
use crate::shared::Shared;
use crate::status::Viewer;
use crate::tasks::Tasks;

/// How many messages may wait between two parts of the daemon.
pub(crate) const QUEUE: usize = 1024;

/// How long requests under way and the speaker's connections may take to end after a signal.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(1500);

pub(crate) fn run(options: NodeOptions) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(start(options));
    // A call that hangs in the datastore must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn start(options: NodeOptions) -> Result<(), Exit> {
    let name: Arc<str> = node_name(&options)?.into();
    let url = options.datastore.clone().unwrap_or_default();
    let store = margay_datastore::open(&url).map_err(|error| Exit::usage(error.to_string()))?;
    let socket = api::bind(&options.socket())?;
    let metrics_listen = options.metrics_listen;
    let restarting = restart::is_restart(&options.state)?;
    let notes = Notes::new(options.state.join("attachments"));
    tracing::info!(node = %name, datastore = without_password(&url), restarting, "margayd starts");

    let mut tasks = Tasks::default();
    let (fib_sender, mut fib) = mpsc::channel(QUEUE);
    let (to_speaker, mut from_felix) = mpsc::channel(QUEUE);
    let seed = random_seed()?;
    let (speaker, speaking) = margay_bgp_speaker::spawn_thread(SpeakerOptions { restarting, seed }, fib_sender)
        .map_err(|error| Exit::failed(format!("cannot start the BGP speaker: {error}")))?;
    tasks.spawn("the BGP speaker", async move {
        if let Err(error) = speaking.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    });
    let felix = margay_felix_agent::spawn(AgentOptions::default(), to_speaker)
        .map_err(|error| Exit::failed(format!("cannot program the kernel: {error}")))?;
    let (events, recording) = EventLog::record(&speaker).map_err(|gone| Exit::failed(gone.to_string()))?;
    tasks.spawn("the record of BGP's events", recording);
    let (bfd_troubles, bfd) = watch::channel(bfd::bridge::Troubles::default());
    let bfd_socket = options.run.join(BFD_SOCKET);
    let bridge = bfd::bridge::run(speaker.clone(), bfd_socket, "node".to_owned(), bfd_troubles);
    tasks.spawn("the way of BFD's word to the speaker", bridge);
    let ipam = IpamClient::new(store.clone(), &name);

    let (shared_sender, shared) = watch::channel(Arc::new(Shared::default()));
    let (actor_sender, messages) = mpsc::channel(QUEUE);
    let (findings_sender, findings) = watch::channel(None);
    let secrets = options.secrets.clone();
    let drain_record = DrainRecord::open(&options.state);
    let actor =
        Actor::new(&name, felix.clone(), speaker.clone(), shared_sender, findings_sender, secrets, drain_record);
    tasks.spawn("the task that knows the cluster", actor.run(messages));

    let to_felix = felix.clone();
    tasks.spawn("the way of routes from the speaker to the kernel", async move {
        while let Some(batch) = fib.recv().await {
            to_felix.send(ToFelix::Fib(batch)).await;
        }
    });
    let asking = ask_ways(speaker.tracked_next_hops(), felix.clone());
    tasks.spawn("the way of the speaker's next hops to the routing agent", asking);
    let heard = speaker.clone();
    // Ends with felix, which holds the other end.
    tasks.spawn("the routing and policy agent", async move {
        while let Some(message) = from_felix.recv().await {
            if heard.from_felix(message).await.is_err() {
                break;
            }
        }
    });

    for watched in Watched::ALL {
        let mut events = margay_datastore::watch_prefix(store.clone(), watched.prefix());
        let actor = actor_sender.clone();
        tasks.spawn(format!("the watch of {watched:?}"), async move {
            while let Some(event) = events.recv().await {
                if actor.send(Message::Store(watched, event)).await.is_err() {
                    break;
                }
            }
        });
    }
    let registrar = Registrar {
        node: name.clone(),
        store: store.clone(),
        ipam: ipam.clone(),
        method: Box::new(move |family| options.method(family)),
        actor: actor_sender.clone(),
        shared: shared.clone(),
    };
    tasks.spawn("registration", registrar.run());

    let cni = Cni::new(name.clone(), store.clone(), ipam.clone(), actor_sender.clone(), shared.clone(), notes);
    let host = Arc::new(NodeHost { shared: shared.clone(), actor: actor_sender.clone() });
    let bgp = BgpApi { speaker: speaker.clone(), events, host };
    let (stop_metrics, stopped) = watch::channel(false);
    tasks.spawn("the metrics", metrics::serve(metrics_listen, api::metrics_router(bgp.clone()), stopped));
    let object_status = object_status::Reporter {
        node: name.clone(),
        store: store.clone(),
        findings,
        actor: actor_sender.clone(),
        pace: object_status::Pace::NODE,
    };
    tasks.spawn("the status of objects that cannot be followed", object_status.run());
    let reporter = Reporter {
        node: name.clone(),
        store,
        bgp: bgp.clone(),
        felix: felix.clone(),
        actor: actor_sender.clone(),
        started: SystemTime::now(),
    };
    tasks.spawn("the reports of CalicoNodeStatus", reporter.run());
    let viewer = Viewer {
        node: name,
        datastore: without_password(&url).into(),
        started: Instant::now(),
        shared,
        actor: actor_sender,
        bgp,
        bfd,
        felix,
        ipam,
    };
    let (stop, stopped) = oneshot::channel();
    let serving = api::serve(socket.listener, Api { cni, viewer }, stopped);
    let ended = run_until_stopped(serving, stop, tasks, speaker).await;
    stop_metrics.send_replace(true);
    ended
}

/// Has felix answer for the next hops that the speaker tracks.
pub(crate) async fn ask_ways(mut tracked: watch::Receiver<BTreeSet<IpAddr>>, felix: FelixHandle) {
    while tracked.changed().await.is_ok() {
        let next_hops = tracked.borrow_and_update().clone();
        felix.send(ToFelix::TrackNextHops(next_hops)).await;
    }
}

/// Who configures a node's speaker: the task that knows the cluster.
#[derive(Debug)]
struct NodeHost {
    shared: watch::Receiver<Arc<Shared>>,
    actor: mpsc::Sender<Message>,
}

impl BgpHost for NodeHost {
    fn config(&self) -> Option<Arc<SpeakerConfig>> {
        self.shared.borrow().bgp.clone()
    }

    fn drain_override(&self) -> Option<Drain> {
        self.shared.borrow().drain
    }

    fn configured(&self) -> Option<SystemTime> {
        self.shared.borrow().bgp_since
    }

    fn set_drain(&self, drain: Option<Drain>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            let (done, told) = oneshot::channel();
            let stopping = "margayd is stopping".to_owned();
            self.actor.send(Message::Drain { drain, done }).await.map_err(|_| stopping.clone())?;
            told.await.unwrap_or(Err(stopping))
        })
    }
}

/// Serves until a signal comes or a task ends, then lets requests under way come to their end. Peers keep the routes,
/// the kernel keeps forwarding: whoever starts next takes over.
async fn run_until_stopped(
    serving: impl Future<Output = std::io::Result<()>>,
    stop: oneshot::Sender<()>,
    mut tasks: Tasks,
    speaker: SpeakerHandle,
) -> Result<(), Exit> {
    let mut signals = Signals::new()?;
    let mut serving = pin!(serving);
    tokio::select! {
        name = signals.next() => tracing::info!("stopping on {name}; routes and policy stay"),
        ended = tasks.first_end() => {
            return Err(Exit::failed(format!("{ended}; the daemon stops so that it is started anew; routes and policy stay")));
        }
        ended = &mut serving => return Err(Exit::failed(format!("the local API ended: {ended:?}"))),
    }
    // Nobody listens only where serving has ended.
    let _ = stop.send(());
    let last_words = async {
        let (_, _) = tokio::join!(serving, speaker.stop(StopKind::Restart));
    };
    tokio::select! {
        _ = tokio::time::timeout(LAST_WORDS, last_words) => {}
        name = signals.next() => tracing::info!("stopping at once on a second {name}"),
    }
    Ok(())
}

/// The signals that end the daemon.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Signals, Exit> {
        let failed = |error: std::io::Error| Exit::failed(format!("cannot wait for signals: {error}"));
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Signals { terminate, interrupt: signal(SignalKind::interrupt()).map_err(failed)? })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Spreads the timers of speakers that start together.
pub(crate) fn random_seed() -> Result<u64, Exit> {
    rand::rngs::OsRng
        .try_next_u64()
        .map_err(|error| Exit::failed(format!("the kernel gives no random numbers: {error}")))
}

fn node_name(options: &NodeOptions) -> Result<String, Exit> {
    let name = match &options.node {
        Some(name) => name.clone(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_err(|error| Exit::failed(format!("cannot read the host's name: {error}; set --node or MARGAY_NODE")))?
            .trim()
            .to_ascii_lowercase(),
    };
    match Node::named(&name, NodeSpec::default()).problems().first() {
        None => Ok(name),
        Some(problem) => {
            Err(Exit::usage(format!("the node's name is not usable ({problem}); set --node or MARGAY_NODE")))
        }
    }
}

/// The datastore's URL as it may be shown.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}
