//! The metrics for a scraper that comes by TCP.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Between two attempts to listen where the address is taken.
const RETRY: Duration = Duration::from_secs(5);

/// Where metrics are served: `ADDRESS:PORT`, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetricsListen(pub(crate) Option<SocketAddr>);

impl FromStr for MetricsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(MetricsListen(None)),
            _ => text
                .parse()
                .map(|address| MetricsListen(Some(address)))
                .map_err(|_| format!("'{text}' is neither ADDRESS:PORT nor 'off'")),
        }
    }
}

/// Serves until it is told to stop. Metrics are no reason to end the daemon or not to start it: an address that is taken
/// is tried again. Scrapes under way at the end are cut off.
pub(crate) async fn serve(listen: MetricsListen, router: Router, mut stop: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    tokio::select! {
        () = stopped => {}
        () = serve_for_ever(listen, router) => {}
    }
}

async fn serve_for_ever(listen: MetricsListen, router: Router) {
    let Some(address) = listen.0 else { return std::future::pending().await };
    let mut warned = false;
    loop {
        let ended = match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "metrics are served");
                warned = false;
                axum::serve(listener, router.clone()).await
            }
            Err(error) => Err(error),
        };
        if let (Err(error), false) = (ended, warned) {
            tracing::warn!(%address, %error, "metrics cannot be served; set --metrics-listen to another address, or off");
            warned = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}
