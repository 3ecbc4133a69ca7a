//! The composition root of `margayd bgp`.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_bgp_core::StopKind;
use margay_bgp_speaker::SpeakerOptions;
use margay_felix_agent::{AgentOptions, FelixHandle, ToFelix};
use margay_local_api::BFD_SOCKET;
use margay_net::FromFelix;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::SpeakerArgs;
use super::conductor::{Conductor, Order, StandaloneHost, load};
use super::schema::Fib;
use super::status::{self, SpeakerStatus};
use crate::Exit;
use crate::api::{self, BgpApi};
use crate::bfd;
use crate::bgp_events::EventLog;
use crate::metrics;
use crate::node::{LAST_WORDS, QUEUE, Signals, ask_ways, random_seed};
use crate::restart;
use crate::tasks::Tasks;

pub(crate) fn run(args: SpeakerArgs) -> Result<(), Exit> {
    let plan = load(&args.config).map_err(Exit::usage)?;
    if args.check {
        for warning in &plan.warnings {
            eprintln!("{}: warning: {warning}", args.config.display());
        }
        let (peers, ranges) = (plan.config.peers.len(), plan.config.listen_ranges.len());
        println!("{}: good: {peers} peers, {ranges} listen ranges", args.config.display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(start(args, plan));
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn start(args: SpeakerArgs, plan: super::build::Plan) -> Result<(), Exit> {
    let socket = api::bind(&args.socket())?;
    let fib = plan.fib;
    let restarting = match fib {
        Fib::Kernel => restart::is_restart(&args.state)?,
        // Packets don't go through a speaker without FIB: nothing has to be preserved but the boot.
        Fib::None => restart::is_same_boot(&args.state)?,
    };
    plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    tracing::info!(config = %args.config.display(), ?fib, restarting, "margayd starts as a speaker");

    let mut tasks = Tasks::default();
    let (fib_sender, batches) = mpsc::channel(QUEUE);
    let (to_speaker, from_felix) = mpsc::channel(QUEUE);
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
    let (events, recording) = EventLog::record(&speaker).map_err(|gone| Exit::failed(gone.to_string()))?;
    tasks.spawn("the record of BGP's events", recording);
    let (bfd_troubles, bfd) = watch::channel(bfd::bridge::Troubles::default());
    let bridge = bfd::bridge::run(speaker.clone(), args.run.join(BFD_SOCKET), "speaker".to_owned(), bfd_troubles);
    tasks.spawn("the way of BFD's word to the speaker", bridge);
    let felix = margay_felix_agent::spawn(AgentOptions { routes_only: true, ..AgentOptions::default() }, to_speaker)
        .map_err(|error| Exit::failed(format!("cannot read the kernel's links: {error}")))?;
    tasks.spawn("the way of links from the kernel to the speaker", links(from_felix, speaker.clone(), fib));
    match fib {
        Fib::Kernel => tasks.spawn("the way of routes from the speaker to the kernel", routes(batches, felix.clone())),
        // To the speaker its routes are where they have to be, from its first one.
        Fib::None => drop(batches),
    }
    let asking = ask_ways(speaker.tracked_next_hops(), felix.clone());
    tasks.spawn("the way of the speaker's next hops to the routing agent", asking);
    let (conductor, standing) =
        Conductor::start(args.config.clone(), plan, speaker.clone()).await.map_err(Exit::usage)?;
    if fib == Fib::Kernel {
        felix.send(ToFelix::InSync).await;
    }
    let (orders, inbox) = mpsc::channel(QUEUE);
    tasks.spawn("the task that configures the speaker", conductor.run(inbox));
    tasks.spawn("the wait for SIGHUP", hang_ups(orders.clone())?);

    let host = Arc::new(StandaloneHost { standing: standing.clone(), orders });
    let bgp = BgpApi { speaker: speaker.clone(), events, host };
    let (stop_metrics, stopped) = watch::channel(false);
    tasks.spawn("the metrics", metrics::serve(args.metrics_listen, api::metrics_router(bgp.clone()), stopped));
    let file = args.config.display().to_string();
    let status = SpeakerStatus { file, started: Instant::now(), standing, felix, bgp: bgp.clone(), bfd };
    let router = api::bgp_router(bgp).merge(status::router(status));
    let (stop, stopped) = oneshot::channel();
    let mut serving = pin!(api::serve_router(socket.listener, router, stopped));
    let mut signals = Signals::new()?;
    tokio::select! {
        name = signals.next() => tracing::info!("stopping on {name}; peers keep the routes, and so does the kernel"),
        ended = tasks.first_end() => return Err(Exit::failed(format!("{ended}; the speaker stops so that it is started anew"))),
        ended = &mut serving => return Err(Exit::failed(format!("the local API ended: {ended:?}"))),
    }
    // Nobody listens only where serving has ended.
    let _ = stop.send(());
    stop_metrics.send_replace(true);
    let last_words = async {
        let (_, _) = tokio::join!(serving, speaker.stop(StopKind::Restart));
    };
    tokio::select! {
        _ = tokio::time::timeout(LAST_WORDS, last_words) => {}
        name = signals.next() => tracing::info!("stopping at once on a second {name}"),
    }
    Ok(())
}

/// Tells the speaker of links and of the ways to its next hops, and with a FIB of what the kernel holds. Its own prefixes are the file's alone.
async fn links(mut messages: mpsc::Receiver<FromFelix>, speaker: margay_bgp_speaker::SpeakerHandle, fib: Fib) {
    while let Some(message) = messages.recv().await {
        let wanted = match &message {
            FromFelix::Local(_) => false,
            FromFelix::Applied { .. } => fib == Fib::Kernel,
            FromFelix::Link(_) | FromFelix::NextHop { .. } => true,
        };
        if wanted && speaker.from_felix(message).await.is_err() {
            return;
        }
    }
}

/// Hands best routes to the kernel's writer.
async fn routes(mut batches: mpsc::Receiver<margay_net::FibBatch>, felix: FelixHandle) {
    while let Some(batch) = batches.recv().await {
        felix.send(ToFelix::Fib(batch)).await;
    }
}

fn hang_ups(orders: mpsc::Sender<Order>) -> Result<impl Future<Output = ()> + Send + 'static, Exit> {
    let mut hang_up =
        signal(SignalKind::hangup()).map_err(|error| Exit::failed(format!("cannot wait for signals: {error}")))?;
    Ok(async move {
        while hang_up.recv().await.is_some() {
            if orders.send(Order::Reload).await.is_err() {
                return;
            }
        }
    })
}
