//! `GET /v1/status` of a speaker of its own.

use std::time::Instant;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use margay_felix_agent::FelixHandle;
use margay_local_api::{ApiError, DatastoreStatus, KernelStatus, Status, path};
use tokio::sync::watch;

use super::conductor::Standing;
use super::schema::Fib;
use crate::api::{BgpApi, Failed};
use crate::bfd::bridge::Troubles;
use crate::bgp_view::rfc3339;
use crate::status::resident_bytes;

#[derive(Debug, Clone)]
pub(super) struct SpeakerStatus {
    pub(super) file: String,
    pub(super) started: Instant,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) felix: FelixHandle,
    pub(super) bgp: BgpApi,
    pub(super) bfd: watch::Receiver<Troubles>,
}

pub(super) fn router(status: SpeakerStatus) -> Router {
    Router::new().route(path::STATUS, get(show)).with_state(status)
}

async fn show(State(status): State<SpeakerStatus>) -> Result<Json<Status>, Failed> {
    Ok(Json(status.status().await?))
}

impl SpeakerStatus {
    async fn status(&self) -> Result<Status, ApiError> {
        let standing = self.standing.borrow().clone();
        let kernel = self.kernel(standing.plan.fib).await;
        let mut warnings = standing.plan.warnings.clone();
        if let Some(reason) = standing.refused {
            let since = rfc3339(standing.loaded);
            warnings.push(format!("the configuration of {since} stays in force, its file is refused now: {reason}"));
        }
        warnings.extend(self.bfd.borrow().iter().cloned());
        Ok(Status {
            node: format!("speaker {}", standing.config.router_id),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            rss_bytes: resident_bytes(),
            ready: kernel.in_sync,
            datastore: DatastoreStatus { url: self.file.clone(), in_sync: true, error: String::new() },
            kernel,
            bgp: self.bgp.peers().await?,
            warnings,
            ..Status::default()
        })
    }

    async fn kernel(&self, fib: Fib) -> KernelStatus {
        if fib == Fib::None {
            return KernelStatus { in_sync: true, ..KernelStatus::default() };
        }
        let felix = self.felix.status().await;
        KernelStatus {
            in_sync: felix.in_sync,
            drift: felix.drift,
            routes: felix.routes.into_iter().filter(|(kind, _)| kind == "bgp").collect(),
            last_error: felix.last_error.unwrap_or_default(),
        }
    }
}
