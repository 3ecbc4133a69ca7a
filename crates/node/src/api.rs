//! The local API: HTTP with JSON on a unix socket that only root can open.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use margay_local_api::{ApiError, BgpPeers, BgpRoutes, CniStatus, ExplainRequest, ExplainResponse, Status, path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use crate::Exit;
use crate::cni::Cni;
use crate::status::Viewer;

/// What the handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) cni: Cni,
    pub(crate) viewer: Viewer,
}

/// Takes the socket over from an earlier run and narrows it to root.
pub(crate) fn bind(socket: &Path) -> Result<UnixListener, Exit> {
    let failed =
        |what: &str, error: std::io::Error| Exit::failed(format!("cannot {what} {}: {error}", socket.display()));
    if let Some(directory) = socket.parent() {
        std::fs::create_dir_all(directory).map_err(|error| failed("make the directory of", error))?;
    }
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return Err(Exit::failed(format!("another margayd serves {}; stop it first", socket.display())));
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("replace", error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(|error| failed("listen on", error))?;
    let root_only = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(socket, root_only).map_err(|error| failed("protect", error))?;
    Ok(listener)
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: UnixListener, api: Api) -> std::io::Result<()> {
    let router = Router::new()
        .route(path::STATUS, get(status))
        .route(path::BGP_PEERS, get(bgp_peers))
        .route(path::BGP_ROUTES, get(bgp_routes))
        .route(path::POLICY_EXPLAIN, post(explain))
        .route(path::CNI_ADD, post(cni_add))
        .route(path::CNI_DEL, post(cni_del))
        .route(path::CNI_CHECK, post(cni_check))
        .route(path::CNI_GC, post(cni_gc))
        .route(path::CNI_STATUS, get(cni_status))
        .fallback(unknown)
        .with_state(api);
    axum::serve(listener, router).await
}

/// An error with the HTTP status that fits it.
struct Failed(ApiError);

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Failed(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ApiError::TRY_AGAIN | ApiError::NOT_AVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::BAD_REQUEST => StatusCode::BAD_REQUEST,
            ApiError::UNKNOWN_CONTAINER => StatusCode::NOT_FOUND,
            ApiError::EXHAUSTED | ApiError::CHECK_FAILED => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Failed>;

fn answer<T: Serialize>(result: Result<T, ApiError>) -> Answer<T> {
    result.map(Json).map_err(Failed)
}

fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failed> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failed(ApiError::new(ApiError::BAD_REQUEST, "the request cannot be understood", error.to_string()))
    })
}

async fn status(State(api): State<Api>) -> Answer<Status> {
    answer(api.viewer.status().await)
}

async fn bgp_peers(State(api): State<Api>) -> Answer<BgpPeers> {
    answer(api.viewer.peers().await)
}

async fn bgp_routes(State(api): State<Api>) -> Answer<BgpRoutes> {
    answer(api.viewer.routes().await)
}

async fn explain(State(api): State<Api>, bytes: Bytes) -> Answer<ExplainResponse> {
    answer(api.viewer.explain(body::<ExplainRequest>(&bytes)?).await)
}

async fn cni_add(State(api): State<Api>, bytes: Bytes) -> Answer<margay_local_api::AddResponse> {
    let request = body(&bytes)?;
    // The work goes on to its end even if the plugin hangs up, so that nothing is left half done.
    let cni = api.cni.clone();
    let added = tokio::spawn(async move { cni.add(request).await }).await;
    answer(added.unwrap_or_else(|error| Err(ApiError::new(ApiError::INTERNAL, "ADD failed", error.to_string()))))
}

async fn cni_del(State(api): State<Api>, bytes: Bytes) -> Answer<CniStatus> {
    let request = body(&bytes)?;
    let cni = api.cni.clone();
    let deleted = tokio::spawn(async move { cni.del(request).await }).await;
    let deleted =
        deleted.unwrap_or_else(|error| Err(ApiError::new(ApiError::INTERNAL, "DEL failed", error.to_string())));
    answer(deleted.map(|()| CniStatus {}))
}

async fn cni_check(State(api): State<Api>, bytes: Bytes) -> Answer<CniStatus> {
    answer(api.cni.check(body(&bytes)?).await.map(|()| CniStatus {}))
}

async fn cni_gc(State(api): State<Api>, bytes: Bytes) -> Answer<margay_local_api::GcResponse> {
    answer(api.cni.gc(body(&bytes)?).await)
}

async fn cni_status(State(api): State<Api>) -> Answer<CniStatus> {
    answer(api.cni.status().map(|()| CniStatus {}))
}

async fn unknown(uri: axum::http::Uri) -> (StatusCode, Json<ApiError>) {
    let error = ApiError::new(ApiError::BAD_REQUEST, format!("there is no {}", uri.path()), "see /v1/status");
    (StatusCode::NOT_FOUND, Json(error))
}
