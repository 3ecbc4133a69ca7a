//! The local API: HTTP with JSON on a unix socket that only root can open.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use margay_local_api::{AddResponse, ApiError, CniStatus, ExplainRequest, ExplainResponse, GcResponse, Status, path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::cni::{Cni, StatusQuery};
use crate::status::Viewer;

mod bgp;
mod socket;
mod stream;

pub(crate) use bgp::{BgpApi, BgpHost, metrics_router, router as bgp_router};
pub(crate) use socket::bind;
pub(crate) use socket::take;

/// What the handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) cni: Cni,
    pub(crate) viewer: Viewer,
}

/// Serves until it is told to stop, then until the requests under way are answered.
pub(crate) async fn serve(listener: UnixListener, api: Api, stop: oneshot::Receiver<()>) -> std::io::Result<()> {
    let bgp = bgp_router(api.viewer.bgp.clone());
    let router = Router::new()
        .route(path::STATUS, get(status))
        .route(path::POLICY_EXPLAIN, post(explain))
        .route(path::CNI_ADD, post(cni_add))
        .route(path::CNI_DEL, post(cni_del))
        .route(path::CNI_CHECK, post(cni_check))
        .route(path::CNI_GC, post(cni_gc))
        .route(path::CNI_STATUS, get(cni_status))
        .with_state(api)
        .merge(bgp);
    serve_router(listener, router, stop).await
}

/// Serves the routes, and says of every other path or method that it isn't there.
pub(crate) async fn serve_router(
    listener: UnixListener,
    router: Router,
    stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let router = router.fallback(unknown).method_not_allowed_fallback(wrong_method);
    let stopped = async {
        // A sender that is gone means the same.
        let _ = stop.await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

/// An error with the HTTP status that fits it.
#[derive(Debug)]
pub(crate) struct Failed(ApiError);

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
            ApiError::UNKNOWN_CONTAINER | ApiError::NOT_FOUND => StatusCode::NOT_FOUND,
            ApiError::EXHAUSTED | ApiError::CHECK_FAILED => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Failed>;
type Body = Result<Bytes, BytesRejection>;

/// Does the work in a task of its own: it goes on to its end even if the client hangs up, so that nothing is left half
/// done, and a panic is this request's failure and nobody else's.
async fn work<T: Serialize + Send + 'static>(
    what: &str,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(work).await {
        Ok(result) => result.map(Json).map_err(Failed),
        Err(error) => Err(Failed(ApiError::new(ApiError::INTERNAL, format!("{what} failed"), error.to_string()))),
    }
}

fn body<T: DeserializeOwned>(bytes: Body) -> Result<T, Failed> {
    let bad =
        |details: String| Failed(ApiError::new(ApiError::BAD_REQUEST, "the request cannot be understood", details));
    let bytes = bytes.map_err(|rejection| bad(rejection.body_text()))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

async fn status(State(api): State<Api>) -> Answer<Status> {
    work("status", async move { api.viewer.status().await }).await
}

async fn explain(State(api): State<Api>, bytes: Body) -> Answer<ExplainResponse> {
    let request: ExplainRequest = body(bytes)?;
    work("the explanation", async move { api.viewer.explain(request).await }).await
}

async fn cni_add(State(api): State<Api>, bytes: Body) -> Answer<AddResponse> {
    let request = body(bytes)?;
    work("ADD", async move { api.cni.add(request).await }).await
}

async fn cni_del(State(api): State<Api>, bytes: Body) -> Answer<CniStatus> {
    let request = body(bytes)?;
    work("DEL", async move { api.cni.del(request).await.map(|()| CniStatus {}) }).await
}

async fn cni_check(State(api): State<Api>, bytes: Body) -> Answer<CniStatus> {
    let request = body(bytes)?;
    work("CHECK", async move { api.cni.check(request).await.map(|()| CniStatus {}) }).await
}

async fn cni_gc(State(api): State<Api>, bytes: Body) -> Answer<GcResponse> {
    let request = body(bytes)?;
    work("GC", async move { api.cni.gc(request).await }).await
}

async fn cni_status(State(api): State<Api>, query: Result<Query<StatusQuery>, QueryRejection>) -> Answer<CniStatus> {
    let Query(query) = query.map_err(|rejection| {
        Failed(ApiError::new(ApiError::BAD_REQUEST, "the request cannot be understood", rejection.body_text()))
    })?;
    work("STATUS", async move { api.cni.status(&query).await.map(|()| CniStatus {}) }).await
}

async fn unknown(uri: Uri) -> (StatusCode, Json<ApiError>) {
    let details = format!("the API begins at {}", path::STATUS);
    let error = ApiError::new(ApiError::BAD_REQUEST, format!("there is no {}", uri.path()), details);
    (StatusCode::NOT_FOUND, Json(error))
}

async fn wrong_method(method: Method, uri: Uri) -> (StatusCode, Json<ApiError>) {
    let message = format!("{} does not take {method}", uri.path());
    let error = ApiError::new(ApiError::BAD_REQUEST, message, "reads are GET, everything else is POST");
    (StatusCode::METHOD_NOT_ALLOWED, Json(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_failure_of_one_request() {
        let failed = work::<CniStatus>("ADD", async { panic!("a bug") }).await.expect_err("a panic");
        assert_eq!((failed.0.code, failed.0.message.as_str()), (999, "ADD failed"));
        assert!(failed.0.details.contains("a bug"), "{}", failed.0.details);
    }

    #[test]
    fn errors_have_the_http_status_of_who_is_to_act() {
        for (code, status) in [(11, 503), (50, 503), (7, 400), (3, 404), (100, 409), (101, 409), (999, 500)] {
            assert_eq!(Failed(ApiError::new(code, "x", "")).into_response().status().as_u16(), status);
        }
    }
}
