//! The one task that configures the speaker: at the start, on SIGHUP, and when the local API drains it.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use margay_bgp_core::{Drain, PeerName, SpeakerConfig};
use margay_bgp_speaker::SpeakerHandle;
use margay_net::{Cidr, FromFelix, LocalRoute, LocalRouteChange, LocalRouteSource};
use tokio::sync::{mpsc, oneshot, watch};

use super::build::{Plan, build};
use super::{problem, schema};
use crate::api::BgpHost;

/// What is in force, and what of the file is not.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) plan: Arc<Plan>,
    /// The plan's configuration with the drain that was asked for.
    pub(super) config: Arc<SpeakerConfig>,
    pub(super) drain: Option<Drain>,
    pub(super) loaded: SystemTime,
    /// Why the file's last version is not in force.
    pub(super) refused: Option<String>,
}

/// What the task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The file is to be read again.
    Reload,
    Drain {
        drain: Option<Drain>,
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// Reads the file into a plan, or says everything that is wrong with it.
pub(super) fn load(file: &Path) -> Result<Plan, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let parsed = schema::parse(&text).map_err(|found| problem::list(file, &[found]))?;
    let directory = file.parent().unwrap_or(Path::new("."));
    let password = |name: &str| {
        let path = directory.join(name);
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    build(&parsed, &password).map_err(|problems| problem::list(file, &problems))
}

pub(super) struct Conductor {
    file: PathBuf,
    speaker: SpeakerHandle,
    standing: watch::Sender<Standing>,
}

impl Conductor {
    /// Configures the speaker for the first time.
    pub(super) async fn start(
        file: PathBuf,
        plan: Plan,
        speaker: SpeakerHandle,
    ) -> Result<(Conductor, watch::Receiver<Standing>), String> {
        let config = Arc::new(plan.config.clone());
        // A speaker that restarts tells its peers nothing before it knows all that is its own.
        let announced = plan.networks.iter().copied().map(announce).collect();
        speaker.from_felix(FromFelix::Local(announced)).await.map_err(|gone| gone.to_string())?;
        speaker.configure(plan.config.clone()).await.map_err(|error| error.to_string())?;
        let standing = Standing { plan: Arc::new(plan), config, drain: None, loaded: SystemTime::now(), refused: None };
        let (standing, receiver) = watch::channel(standing);
        Ok((Conductor { file, speaker, standing }, receiver))
    }

    pub(super) async fn run(self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Reload => self.reload().await,
                Order::Drain { drain, done } => {
                    let standing = self.standing.borrow().clone();
                    let drained = self.apply(&standing.plan, drain, standing.loaded, standing.refused).await;
                    // An asker that is gone needs no answer.
                    let _ = done.send(drained);
                }
            }
        }
    }

    /// Puts what changed of the file into force; if anything is wrong with it, nothing.
    async fn reload(&self) {
        let before = self.standing.borrow().clone();
        let applied = match load(&self.file) {
            Ok(plan) if plan.fib != before.plan.fib => {
                Err(format!("{}: 'fib' cannot be changed while the speaker runs: restart it", self.file.display()))
            }
            Ok(plan) => {
                let warnings = plan.warnings.clone();
                let applied = self.apply(&Arc::new(plan), before.drain, SystemTime::now(), None).await;
                if applied.is_ok() {
                    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                }
                applied
            }
            Err(problems) => Err(problems),
        };
        match applied {
            Ok(()) => tracing::info!(file = %self.file.display(), "the configuration was read again"),
            Err(reason) => {
                tracing::warn!(reason, "the configuration is refused; the last good one stays");
                self.standing.send_modify(|standing| standing.refused = Some(reason));
            }
        }
    }

    async fn apply(
        &self,
        plan: &Arc<Plan>,
        drain: Option<Drain>,
        loaded: SystemTime,
        refused: Option<String>,
    ) -> Result<(), String> {
        let before = self.standing.borrow().clone();
        let mut config = plan.config.clone();
        config.drain = drain.or(config.drain);
        if config != *before.config {
            self.speaker.configure(config.clone()).await.map_err(|error| error.to_string())?;
        }
        let (old, new) = (&before.plan.networks, &plan.networks);
        let withdrawn = old.difference(new).copied().map(LocalRouteChange::Withdraw);
        let changes: Vec<LocalRouteChange> = withdrawn.chain(new.difference(old).copied().map(announce)).collect();
        if !changes.is_empty() {
            self.speaker.from_felix(FromFelix::Local(changes)).await.map_err(|gone| gone.to_string())?;
        }
        let (plan, config) = (plan.clone(), Arc::new(config));
        self.standing.send_replace(Standing { plan, config, drain, loaded, refused });
        Ok(())
    }
}

fn announce(prefix: Cidr) -> LocalRouteChange {
    LocalRouteChange::Announce(LocalRoute { prefix, source: LocalRouteSource::Static })
}

/// The local API's way to the task.
#[derive(Debug)]
pub(super) struct StandaloneHost {
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) orders: mpsc::Sender<Order>,
}

impl BgpHost for StandaloneHost {
    fn config(&self) -> Option<Arc<SpeakerConfig>> {
        Some(self.standing.borrow().config.clone())
    }

    fn drain_override(&self) -> Option<Drain> {
        self.standing.borrow().drain
    }

    fn set_drain(&self, drain: Option<Drain>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            let (done, told) = oneshot::channel();
            let stopping = "margayd is stopping".to_owned();
            self.orders.send(Order::Drain { drain, done }).await.map_err(|_| stopping.clone())?;
            told.await.unwrap_or(Err(stopping))
        })
    }

    fn configured(&self) -> Option<SystemTime> {
        Some(self.standing.borrow().loaded)
    }

    fn export_rule(&self, peer: &PeerName, rule: usize) -> Option<String> {
        self.standing.borrow().plan.export_rules.get(peer)?.get(rule).cloned()
    }
}
