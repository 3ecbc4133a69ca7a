//! The composition root of `margayd node`: nothing else starts long-lived tasks of the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_api::kinds::{Node, NodeSpec};
use margay_api::{Object, Stored, resource_key};
use margay_bgp_core::StopKind;
use margay_bgp_speaker::SpeakerOptions;
use margay_datastore::{Datastore, StoreError};
use margay_felix_agent::{AgentOptions, ToFelix};
use margay_ipam_client::IpamClient;
use margay_netlink::rtnl::Rtnl;
use rand::TryRngCore;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::Exit;
use crate::actor::{Actor, Message, Shared};
use crate::api::{self, Api};
use crate::cluster::Watched;
use crate::cni::Cni;
use crate::options::NodeOptions;
use crate::register::{self, HostAddress};
use crate::restart;
use crate::status::Viewer;

/// How many messages may wait between two parts of the daemon.
const QUEUE: usize = 1024;

pub(crate) fn run(options: NodeOptions) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    runtime.block_on(start(options))
}

async fn start(options: NodeOptions) -> Result<(), Exit> {
    let name: Arc<str> = node_name(&options)?.into();
    let url = options.datastore.clone().unwrap_or_default();
    let store = margay_datastore::open(&url).map_err(|error| Exit::usage(error.to_string()))?;
    let listener = api::bind(&options.socket())?;
    let restarting = restart::is_restart(&options.state)?;
    tracing::info!(node = %name, datastore = without_password(&url), restarting, "margayd starts");

    let (fib_sender, mut fib) = mpsc::channel(QUEUE);
    let (to_speaker, mut from_felix) = mpsc::channel(QUEUE);
    let seed = random_seed()?;
    let (speaker, _) = margay_bgp_speaker::spawn(SpeakerOptions { restarting, seed }, fib_sender);
    let felix = margay_felix_agent::spawn(AgentOptions::default(), to_speaker)
        .map_err(|error| Exit::failed(format!("cannot program the kernel: {error}")))?;
    let ipam = IpamClient::new(store.clone(), &name);

    let (shared_sender, shared) = watch::channel(Arc::new(Shared::default()));
    let (actor_sender, messages) = mpsc::channel(QUEUE);
    let actor = Actor::new(&name, felix.clone(), speaker.clone(), shared_sender, options.secrets.clone());
    tokio::spawn(actor.run(messages));

    // The speaker's best routes to felix, and what felix says to the speaker.
    let to_felix = felix.clone();
    tokio::spawn(async move {
        while let Some(batch) = fib.recv().await {
            to_felix.send(ToFelix::Fib(batch)).await;
        }
    });
    let heard = speaker.clone();
    tokio::spawn(async move {
        while let Some(message) = from_felix.recv().await {
            if heard.from_felix(message).await.is_err() {
                break;
            }
        }
    });

    for watched in Watched::ALL {
        let mut events = margay_datastore::watch_prefix(store.clone(), watched.prefix(&name));
        let actor = actor_sender.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if actor.send(Message::Store(watched, event)).await.is_err() {
                    break;
                }
            }
        });
    }
    tokio::spawn(keep_registered(store.clone(), options.clone(), name.clone(), ipam.clone()));

    let cni = Cni {
        node: name.clone(),
        store: store.clone(),
        ipam: ipam.clone(),
        actor: actor_sender.clone(),
        shared: shared.clone(),
    };
    let viewer = Viewer {
        node: name,
        datastore: without_password(&url).into(),
        started: Instant::now(),
        shared,
        actor: actor_sender,
        speaker: speaker.clone(),
        felix,
        ipam,
    };
    let served = tokio::spawn(api::serve(listener, Api { cni, viewer }));
    until_stopped(served).await?;
    // Peers keep the routes, the kernel keeps forwarding: whoever starts next takes over.
    speaker.stop(StopKind::Restart).await;
    Ok(())
}

/// Spreads the timers of speakers that start together.
fn random_seed() -> Result<u64, Exit> {
    rand::rngs::OsRng
        .try_next_u64()
        .map_err(|error| Exit::failed(format!("the kernel gives no random numbers: {error}")))
}

async fn until_stopped(served: tokio::task::JoinHandle<std::io::Result<()>>) -> Result<(), Exit> {
    let failed = |error: std::io::Error| Exit::failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping on SIGTERM; routes and policy stay"),
        _ = interrupt.recv() => tracing::info!("stopping on SIGINT; routes and policy stay"),
        ended = served => {
            return Err(Exit::failed(format!("the local API ended: {ended:?}")));
        }
    }
    Ok(())
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

/// Registers the node, and again whenever the datastore was away, then ends what an earlier run left half done.
async fn keep_registered(store: Arc<dyn Datastore>, options: NodeOptions, name: Arc<str>, ipam: IpamClient) {
    let mut pause = Duration::from_millis(200);
    loop {
        match register_once(&*store, &options, &name).await {
            Ok(()) => break,
            Err(reason) => tracing::warn!(reason, retry_in = ?pause, "this node is not registered yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    while let Err(error) = ipam.repair_affinities().await {
        tracing::warn!(%error, "cannot look at this node's blocks yet");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

async fn register_once(store: &dyn Datastore, options: &NodeOptions, name: &str) -> Result<(), String> {
    let key = resource_key::<NodeSpec>(None, name);
    let host = host_addresses()?;
    loop {
        let present = store.get(&key).await.map_err(|error| error.to_string())?;
        let stored = match &present {
            Some(present) => Stored::<NodeSpec>::decode(&key, &present.value).map_err(|error| error.to_string())?,
            None => {
                let mut node = Object::named(name, NodeSpec::default());
                node.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
                let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
                node.metadata.creation_timestamp = Some(now.to_string());
                Stored::new(node)
            }
        };
        let registered = register::register(&stored.object, &host, &|family| options.method(family))?;
        let value = stored.with(registered.clone()).encode();
        let written = match &present {
            Some(_) if registered == stored.object => return Ok(()),
            Some(present) => store.update(&key, &value, present.revision).await,
            None => store.create(&key, &value).await,
        };
        match written {
            Ok(_) => {
                tracing::info!(bgp = ?registered.spec.bgp, "registered this node");
                return Ok(());
            }
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn host_addresses() -> Result<Vec<HostAddress>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot read this machine's addresses: {error}");
    let mut rtnl = Rtnl::open().map_err(|error| failed(&error))?;
    let links = rtnl.links().map_err(|error| failed(&error))?;
    let addresses = rtnl.addresses().map_err(|error| failed(&error))?;
    let found = addresses.into_iter().filter_map(|address| {
        let link = links.iter().find(|link| link.index == address.interface)?;
        Some(HostAddress { interface: link.name.clone(), address: address.addr, prefix_len: address.prefix_len })
    });
    Ok(found.collect())
}

/// The datastore's URL as it may be shown.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}
