//! What the daemon shows of itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_api::kinds::Protocol;
use margay_felix_agent::FelixHandle;
use margay_ipam_client::IpamClient;
use margay_local_api::{
    ApiError, DatastoreStatus, EndpointsStatus, ExplainRequest, ExplainResponse, IpamStatus, KernelStatus,
    PolicyStatus, Status,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::actor::Message;
use crate::api::BgpApi;
use crate::bfd::bridge::Troubles;
use crate::cluster::Cluster;
use crate::shared::{Shared, Waiting};

/// How long a look at the node waits for the datastore: what is known without it is shown all the same.
const DATASTORE_PATIENCE: Duration = Duration::from_millis(500);

/// Answers questions about the node.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) node: Arc<str>,
    /// Without a password.
    pub(crate) datastore: Arc<str>,
    pub(crate) started: Instant,
    pub(crate) shared: watch::Receiver<Arc<Shared>>,
    pub(crate) actor: mpsc::Sender<Message>,
    pub(crate) bgp: BgpApi,
    pub(crate) bfd: watch::Receiver<Troubles>,
    pub(crate) felix: FelixHandle,
    pub(crate) ipam: IpamClient,
}

impl Viewer {
    pub(crate) async fn status(&self) -> Result<Status, ApiError> {
        let shared = self.shared.borrow().clone();
        let felix = self.felix.status().await;
        let ready = shared.in_sync && shared.datastore_error.is_none() && felix.in_sync;
        let mut warnings = shared.warnings.clone();
        warnings.extend(felix.failures.iter().cloned());
        warnings.extend(felix.sysctl_problems.iter().cloned());
        warnings.extend(felix.policy_error.clone());
        warnings.extend(self.bfd.borrow().iter().cloned());
        Ok(Status {
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            rss_bytes: resident_bytes(),
            ready,
            waiting: shared.waits.iter().map(Waiting::view).collect(),
            datastore: DatastoreStatus {
                url: self.datastore.to_string(),
                in_sync: shared.in_sync,
                error: shared.datastore_error.as_ref().map(|(reason, _)| reason.clone()).unwrap_or_default(),
            },
            kernel: KernelStatus {
                in_sync: felix.in_sync,
                drift: felix.drift.clone(),
                routes: felix.routes.clone(),
                last_error: felix.last_error.clone().unwrap_or_default(),
            },
            bgp: self.bgp.peers().await?,
            ipam: self.ipam_status(&shared).await,
            endpoints: EndpointsStatus { local: shared.local_endpoints as u64, cluster: shared.endpoints as u64 },
            policy: PolicyStatus {
                policies: shared.policies as u64,
                profiles: shared.profiles.len() as u64,
                elements: felix.policy_elements,
                last_change_micros: felix.policy_last_change_micros,
            },
            warnings,
        })
    }

    /// The blocks that the watch told of, with their use where the datastore answers.
    async fn ipam_status(&self, shared: &Shared) -> IpamStatus {
        let read = tokio::time::timeout(DATASTORE_PATIENCE, self.ipam.own_blocks());
        let read = if shared.datastore_error.is_none() { read.await.ok().and_then(Result::ok) } else { None };
        let blocks = match read {
            Some(blocks) => blocks.into_iter().map(|(cidr, used, size)| format!("{cidr} {used}/{size}")).collect(),
            None => shared.own_blocks.iter().map(ToString::to_string).collect(),
        };
        IpamStatus { blocks }
    }

    pub(crate) async fn explain(&self, request: ExplainRequest) -> Result<ExplainResponse, ApiError> {
        let bad = |details: String| ApiError::new(ApiError::BAD_REQUEST, "the question cannot be understood", details);
        let protocol: Protocol = request.protocol.parse().map_err(bad)?;
        let (answer, answered) = oneshot::channel();
        let question = Message::Ask(Box::new(move |cluster| {
            let explained = explain_in(cluster, &request, protocol.number());
            // An asker that is gone needs no answer.
            let _ = answer.send(explained);
        }));
        self.actor.send(question).await.map_err(|gone| stopping(&gone))?;
        let explained = answered.await.map_err(|_| unanswered())?;
        explained.map_err(bad)
    }
}

fn explain_in(cluster: &Cluster, request: &ExplainRequest, protocol: u8) -> Result<ExplainResponse, String> {
    let from = party(&request.from)?;
    let to = party(&request.to)?;
    let explanation = cluster.policy.explain(&from, &to, protocol, request.port)?;
    Ok(ExplainResponse {
        allowed: explanation.is_allowed(),
        lines: explanation.to_string().lines().map(str::to_owned).collect(),
    })
}

/// An address, or `NAMESPACE/POD`.
fn party(text: &str) -> Result<margay_felix_core::policy::Party, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(margay_felix_core::policy::Party::Address(address));
    }
    match text.split_once('/') {
        Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => {
            Ok(margay_felix_core::policy::Party::Pod { namespace: namespace.to_owned(), name: pod.to_owned() })
        }
        _ => Err(format!("'{text}' is neither an address nor NAMESPACE/POD")),
    }
}

fn stopping(gone: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(ApiError::TRY_AGAIN, "margayd is stopping", gone.to_string())
}

/// The question broke off: a panic, of which the log has the place.
pub(crate) fn unanswered() -> ApiError {
    let details = "margayd's log says why; please report it";
    ApiError::new(ApiError::INTERNAL, "the question could not be answered", details)
}

/// The resident set, from /proc (proc(5), statm: pages).
pub(crate) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096
}
