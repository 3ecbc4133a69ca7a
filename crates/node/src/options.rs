use std::path::PathBuf;
use std::sync::OnceLock;

use clap::Args;
use margay_net::Family;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::metrics::MetricsListen;
use crate::register::Method;

/// What the node daemon is told on its command line or in its environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeOptions {
    /// This node's name.
    #[arg(long, env = "MARGAY_NODE")]
    pub(crate) node: Option<String>,
    /// The datastore: sqlite:///PATH, etcd://HOST:PORT[,HOST:PORT] or etcds://... There is no default.
    #[arg(long, env = "MARGAY_DATASTORE", hide_env_values = true)]
    pub(crate) datastore: Option<String>,
    /// Where state is kept over restarts.
    #[arg(long, env = "MARGAY_STATE", default_value = "/var/lib/margay")]
    pub(crate) state: PathBuf,
    /// Where the socket is made.
    #[arg(long, env = "MARGAY_RUN", default_value = "/run/margay")]
    pub(crate) run: PathBuf,
    /// The socket, instead of margayd.sock in the runtime directory.
    #[arg(long, env = "MARGAY_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// This node's IPv4 address: an address, autodetect, none, interface=NAME or cidr=PREFIX.
    #[arg(long, env = "MARGAY_IP", default_value = "autodetect")]
    pub(crate) ip: Method,
    /// This node's IPv6 address, likewise.
    #[arg(long, env = "MARGAY_IP6", default_value = "autodetect")]
    pub(crate) ip6: Method,
    /// Where secrets that BGPPeers name are read from, as NAME/KEY.
    #[arg(long, env = "MARGAY_SECRETS", default_value = "/etc/margay/secrets")]
    pub(crate) secrets: PathBuf,
    /// Where Prometheus finds the metrics: ADDRESS:PORT, or off.
    #[arg(long, env = "MARGAY_METRICS_LISTEN", default_value = "127.0.0.1:9091")]
    pub(crate) metrics_listen: MetricsListen,
}

impl NodeOptions {
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run.join("margayd.sock"))
    }

    pub(crate) fn method(&self, family: Family) -> Method {
        match family {
            Family::V4 => self.ip.clone(),
            Family::V6 => self.ip6.clone(),
        }
    }
}

/// Logs to standard error; `MARGAY_LOG` sets the level, by module if wanted (`info,margay_bgp_speaker=debug`).
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
    // Called once, at the start.
    let _ = LOG_LEVEL.set(handle);
}

const LOG_VARIABLE: &str = "MARGAY_LOG";

static LOG_LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sets the level as `logSeverityScreen` has it, in Calico's words; `MARGAY_LOG` comes before it.
pub(crate) fn set_log_severity(severity: Option<&str>) {
    if std::env::var_os(LOG_VARIABLE).is_some() {
        return;
    }
    if let Some(handle) = LOG_LEVEL.get()
        && let Err(error) = handle.reload(EnvFilter::new(level_of(severity)))
    {
        tracing::warn!(%error, "the log's level can't be changed");
    }
}

fn level_of(severity: Option<&str>) -> &'static str {
    match severity.unwrap_or_default().to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "warning" => "warn",
        "error" | "fatal" => "error",
        _ => "info",
    }
}
