//! The routes below `/v1/bgp/` and `/metrics`: the same for a node and for a stand-alone speaker.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use margay_bgp_core::{
    AdvertisementReason, Drain, PeerName, PeerView, RefreshDirection, Rib, RouteFilter, SpeakerConfig,
};
use margay_bgp_speaker::{RoutePages, SpeakerGone, SpeakerHandle};
use margay_local_api::{
    ApiError, BgpDirection, BgpDone, BgpDrainRequest, BgpEvents, BgpNeighbor, BgpPeers, BgpRefreshRequest,
    BgpResetRequest, BgpWhy, path,
};
use margay_net::{Cidr, Family};
use serde::Deserialize;

use super::{Answer, Body, Failed, body, stream, work};
use crate::bgp_events::EventLog;
use crate::bgp_view;
use crate::metrics::{self, Snapshot};

/// Until a drained node withdraws its routes, unless told otherwise.
const WITHDRAW_AFTER: Duration = Duration::from_secs(60);

/// Who configures the speaker.
pub(crate) trait BgpHost: Debug + Send + Sync {
    /// What is in force; None before the first.
    fn config(&self) -> Option<Arc<SpeakerConfig>>;

    /// What the local API asked for; None where it did not ask for a drain.
    fn drain_override(&self) -> Option<Drain>;

    /// Drains whatever the configuration says, or (None) leaves it to the configuration again.
    fn set_drain(&self, drain: Option<Drain>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>>;

    /// When it was put into force.
    fn configured(&self) -> Option<SystemTime>;

    /// How the operator's configuration names a rule of a peer's export policy, where it has a name.
    fn export_rule(&self, _peer: &PeerName, _rule: usize) -> Option<String> {
        None
    }
}

/// What the handlers need; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BgpApi {
    pub(crate) speaker: SpeakerHandle,
    pub(crate) events: EventLog,
    pub(crate) host: Arc<dyn BgpHost>,
}

pub(crate) fn router(api: BgpApi) -> Router {
    Router::new()
        .route(path::BGP_PEERS, get(peers))
        .route(path::BGP_NEIGHBOR, get(neighbor))
        .route(path::BGP_ROUTES, get(routes))
        .route(path::BGP_WHY, get(why))
        .route(path::BGP_EVENTS, get(events))
        .route(path::BGP_REFRESH, post(refresh))
        .route(path::BGP_RESET, post(reset))
        .route(path::BGP_DRAIN, post(drain))
        .route(path::BGP_UNDRAIN, post(undrain))
        .route(path::METRICS, get(metrics_text))
        .with_state(api)
}

/// The metrics alone, for a scraper that comes by TCP.
pub(crate) fn metrics_router(api: BgpApi) -> Router {
    Router::new().route(path::METRICS, get(metrics_text)).with_state(api)
}

impl BgpApi {
    pub(crate) async fn peers(&self) -> Result<BgpPeers, ApiError> {
        let config = self.host.config();
        let peers = self.speaker.peers().await.map_err(stopping)?;
        let now = SystemTime::now();
        Ok(BgpPeers {
            local_asn: config.as_ref().map(|config| config.asn),
            router_id: config.as_ref().map(|config| config.router_id.to_string()),
            listener: bgp_view::listener(&self.speaker.listener_state()),
            peers: peers.iter().map(|peer| bgp_view::peer(peer, now)).collect(),
            drain: self.drain_words().await?,
        })
    }

    /// How the node is drained, by whom, since when and what comes next; empty where it isn't.
    async fn drain_words(&self) -> Result<String, ApiError> {
        let Some(drain) = self.speaker.drain().await.map_err(stopping)? else { return Ok(String::new()) };
        let by = match self.host.drain_override() {
            Some(_) => "on request, until undrain or a restart,",
            None => "by configuration",
        };
        Ok(format!("drained {by} {}", bgp_view::drain(&drain, SystemTime::now())))
    }

    async fn known(&self, peer: &str) -> Result<PeerView, ApiError> {
        let peers = self.speaker.peers().await.map_err(stopping)?;
        let by_address = |view: &PeerView| view.remote.to_string() == peer;
        let found =
            peers.iter().find(|view| view.name.as_str() == peer).or_else(|| peers.iter().find(|v| by_address(v)));
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = peers.iter().map(|view| view.name.as_str()).take(20).collect();
            let details = format!("the peers are: {}", names.join(", "));
            ApiError::new(ApiError::NOT_FOUND, format!("there is no peer '{peer}'"), details)
        })
    }

    async fn neighbor(&self, peer: &str) -> Result<BgpNeighbor, ApiError> {
        let view = self.known(peer).await?;
        let name = view.name.as_str();
        let config = self.host.config();
        let peer_config = config.as_ref().and_then(|config| {
            let range = || metrics::range_of(config, &view).map(|(_, range)| &range.template);
            config.peers.get(&view.name).or_else(range)
        });
        let sent = self.events.last(name, "notification_sent");
        let received = self.events.last(name, "notification_received");
        Ok(bgp_view::neighbor(&view, peer_config, sent, received, SystemTime::now()))
    }

    /// The routes that are asked for; with `rejected`, only their rejected paths are meant.
    async fn routes(&self, query: &RoutesQuery) -> Result<RoutePages, ApiError> {
        let (rib, peer) = match (&query.received, &query.advertised) {
            (Some(_), Some(_)) => {
                let message = "'received' and 'advertised' are two questions";
                return Err(ApiError::new(ApiError::BAD_REQUEST, message, "ask for one of them"));
            }
            (Some(peer), None) => {
                let name = self.known(peer).await?.name;
                (Rib::In(name.clone()), Some(name))
            }
            (None, Some(peer)) => (Rib::Out(self.known(peer).await?.name), None),
            (None, None) => (Rib::Local, None),
        };
        if let Some(prefix) = query.prefix {
            let wanted = query.within.is_none_or(|within| within.covers(prefix))
                && query.family.is_none_or(|family| prefix.family() == family)
                && query.limit != Some(0);
            return Ok(self.speaker.pages_of(rib, wanted.then_some(prefix).into_iter().collect()));
        }
        let RoutesQuery { family, within, rejected, limit, .. } = *query;
        self.speaker.pages(RouteFilter { rib, family, within, peer, rejected, limit }).await.map_err(stopping)
    }

    async fn refresh(&self, request: BgpRefreshRequest) -> Result<BgpDone, ApiError> {
        let peer = self.known(&request.peer).await?.name;
        let directions = match request.direction {
            Some(BgpDirection::In) => vec![RefreshDirection::In],
            Some(BgpDirection::Out) => vec![RefreshDirection::Out],
            None => vec![RefreshDirection::In, RefreshDirection::Out],
        };
        for &direction in &directions {
            self.speaker.refresh(peer.clone(), direction).await.map_err(stopping)?;
        }
        let words = match directions[..] {
            [RefreshDirection::In] => "its routes are asked for again",
            [RefreshDirection::Out] => "our routes are sent again",
            _ => "its routes are asked for again, and ours are sent again",
        };
        Ok(BgpDone { done: format!("{peer}: {words}") })
    }

    async fn reset(&self, request: BgpResetRequest) -> Result<BgpDone, ApiError> {
        let peer = self.known(&request.peer).await?.name;
        self.speaker.reset(PeerName::new(peer.as_str()), request.reason).await.map_err(stopping)?;
        Ok(BgpDone { done: format!("{peer}: the session is reset") })
    }

    async fn drain(&self, drain: Option<Drain>) -> Result<BgpDone, ApiError> {
        let failed = |reason: String| ApiError::new(ApiError::INTERNAL, "the drain is not changed", reason);
        self.host.set_drain(drain).await.map_err(failed)?;
        let words = self.drain_words().await?;
        Ok(BgpDone { done: if words.is_empty() { "not drained".to_owned() } else { words } })
    }

    pub(crate) async fn metrics(&self) -> Result<String, ApiError> {
        let snapshot = Snapshot {
            peers: self.speaker.peers().await.map_err(stopping)?,
            counters: self.speaker.counters().await.map_err(stopping)?,
            events: self.events.counts(),
            config: self.host.config(),
            listening: self.speaker.listener_state().is_listening(),
            draining: self.host.drain_override().is_some(),
            now: SystemTime::now(),
        };
        metrics::render(snapshot).map_err(|_| ApiError::new(ApiError::INTERNAL, "the metrics cannot be written", ""))
    }
}

pub(super) fn stopping(gone: SpeakerGone) -> ApiError {
    ApiError::new(ApiError::TRY_AGAIN, "margayd is stopping", gone.to_string())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerQuery {
    peer: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefixQuery {
    prefix: Cidr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RoutesQuery {
    prefix: Option<Cidr>,
    within: Option<Cidr>,
    received: Option<String>,
    advertised: Option<String>,
    rejected: bool,
    family: Option<Family>,
    limit: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EventsQuery {
    peer: Option<String>,
    follow: bool,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

fn asked<T>(query: Asked<T>) -> Result<T, Failed> {
    query.map(|Query(query)| query).map_err(|rejection| {
        Failed(ApiError::new(ApiError::BAD_REQUEST, "the request cannot be understood", rejection.body_text()))
    })
}

async fn peers(State(api): State<BgpApi>) -> Answer<BgpPeers> {
    work("the list of peers", async move { api.peers().await }).await
}

async fn neighbor(State(api): State<BgpApi>, query: Asked<PeerQuery>) -> Answer<BgpNeighbor> {
    let query = asked(query)?;
    work("the neighbor", async move { api.neighbor(&query.peer).await }).await
}

async fn routes(State(api): State<BgpApi>, query: Asked<RoutesQuery>) -> Result<Response, Failed> {
    let query = asked(query)?;
    let pages = api.routes(&query).await.map_err(Failed)?;
    Ok(stream::routes(pages, query.rejected))
}

async fn why(State(api): State<BgpApi>, query: Asked<PrefixQuery>) -> Answer<BgpWhy> {
    let PrefixQuery { prefix } = asked(query)?;
    work("the explanation", async move {
        let mut view = api.speaker.why(prefix).await.map_err(stopping)?;
        for told in &mut view.advertisements {
            if let AdvertisementReason::Advertised { rule: Some(rule) }
            | AdvertisementReason::Policy { rule: Some(rule) } = told.reason
                && let Some(name) = api.host.export_rule(&told.peer, rule)
            {
                told.words.push_str(&format!(" ({name})"));
            }
        }
        Ok(bgp_view::why(prefix, &view, SystemTime::now()))
    })
    .await
}

async fn events(State(api): State<BgpApi>, query: Asked<EventsQuery>) -> Result<Response, Failed> {
    let query = asked(query)?;
    let peer = match &query.peer {
        Some(peer) => Some(api.known(peer).await.map_or_else(|_| peer.clone(), |view| view.name.to_string())),
        None => None,
    };
    if !query.follow {
        return Ok(axum::Json(BgpEvents { events: api.events.recent(peer.as_deref()) }).into_response());
    }
    let Some((recent, live)) = api.events.follow(peer.as_deref()) else { return Err(Failed(stopping(SpeakerGone))) };
    Ok(stream::ndjson(recent, live, peer))
}

async fn refresh(State(api): State<BgpApi>, bytes: Body) -> Answer<BgpDone> {
    let request = body(bytes)?;
    work("refresh", async move { api.refresh(request).await }).await
}

async fn reset(State(api): State<BgpApi>, bytes: Body) -> Answer<BgpDone> {
    let request = body(bytes)?;
    work("reset", async move { api.reset(request).await }).await
}

async fn drain(State(api): State<BgpApi>, bytes: Body) -> Answer<BgpDone> {
    let request: BgpDrainRequest = body(bytes)?;
    let withdraw_after = request.withdraw_after_seconds.map_or(WITHDRAW_AFTER, Duration::from_secs);
    work("drain", async move { api.drain(Some(Drain { withdraw_after, began: None })).await }).await
}

async fn undrain(State(api): State<BgpApi>) -> Answer<BgpDone> {
    work("undrain", async move { api.drain(None).await }).await
}

async fn metrics_text(State(api): State<BgpApi>) -> Result<Response, Failed> {
    let text = api.metrics().await?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
