//! `margayd bgp`: a speaker of its own, configured by a file.
//!
//! ```text
//!  speaker.yaml --schema--> values --build--> Plan --conductor--> speaker <--links--- felix's writer
//!       ^                                        ^                    \----batches---> (routes of protocol 79)
//!       SIGHUP                                   local API: drain
//! ```

mod build;
mod community;
mod conductor;
mod filters;
mod problem;
mod run;
mod schema;
mod status;
mod values;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;

use crate::metrics::MetricsListen;

pub(crate) use run::run;

/// What a speaker of its own is told on its command line or in its environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpeakerArgs {
    /// The configuration; docs/standalone.md describes it. SIGHUP reads it again.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// Only checks the configuration: exit code 0 where it is good, 2 where not.
    #[arg(long)]
    pub(crate) check: bool,
    /// Where the socket is made.
    #[arg(long, env = "MARGAY_RUN", default_value = "/run/margay")]
    pub(crate) run: PathBuf,
    /// The socket, instead of margayd.sock in the runtime directory.
    #[arg(long, env = "MARGAY_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// Where it is kept that the speaker ran since boot, which makes the next start a graceful restart.
    #[arg(long, env = "MARGAY_SPEAKER_STATE", default_value = "/var/lib/margay/speaker")]
    pub(crate) state: PathBuf,
    /// Where Prometheus finds the metrics: ADDRESS:PORT, or off.
    #[arg(long, env = "MARGAY_METRICS_LISTEN", default_value = "127.0.0.1:9091")]
    pub(crate) metrics_listen: MetricsListen,
}

impl SpeakerArgs {
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run.join("margayd.sock"))
    }
}
