use std::path::PathBuf;

use clap::Args;
use margay_net::Family;

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
    let filter = tracing_subscriber::EnvFilter::try_from_env("MARGAY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
