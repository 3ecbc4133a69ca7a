//! `margayd bfd`: BFD sessions in a process of its own, that outlives the daemon whose sessions they are.
//!
//! ```text
//!   daemon, ctl --- bfd.sock ---> control --- sets of sessions ---> margay_bfd::Bfd (no IO)
//!                                    ^                                 |   ^
//!                                    +-------- changes of state -------+   |
//!   peers <--- one socket a session (senders)  <------ packets --------+   |
//!   peers ---> one socket a port and family (receivers) ---- packets ------+
//! ```
//!
//! One thread runs all of it, and never waits but in `ppoll`. In each wake-up it first takes every packet that waits,
//! then does what is due: so a late wake-up isn't taken for a silent peer.

pub(crate) mod bridge;
mod client;
mod clock;
mod control;
mod interfaces;
mod process;
mod receivers;
mod scheduling;
mod senders;
mod view;
mod wanted;

use std::path::PathBuf;

use clap::Args;
use margay_local_api::BFD_SOCKET;
use rand::TryRngCore;

use crate::Exit;

/// What the BFD process is told on its command line or in its environment.
#[derive(Debug, Clone, Args)]
pub(crate) struct BfdOptions {
    /// Where its socket, bfd.sock, is made.
    #[arg(long, env = "MARGAY_RUN", default_value = "/run/margay")]
    run: PathBuf,
    /// The socket, instead of bfd.sock in the runtime directory.
    #[arg(long, env = "MARGAY_BFD_SOCKET")]
    socket: Option<PathBuf>,
    /// From how many milliseconds on a wake-up counts as late.
    #[arg(long, env = "MARGAY_BFD_LATE_MS", default_value_t = 10)]
    late_ms: u64,
}

/// Serves until SIGTERM or SIGINT; then all sessions go administratively down.
pub(crate) fn run(options: &BfdOptions) -> Result<(), Exit> {
    let path = options.socket.clone().unwrap_or_else(|| options.run.join(BFD_SOCKET));
    let seed = rand::rngs::OsRng
        .try_next_u64()
        .map_err(|error| Exit::failed(format!("the kernel gives no random numbers: {error}")))?;
    let late_threshold = std::time::Duration::from_millis(options.late_ms);
    process::Process::start(&path, margay_bfd::Options { seed, late_threshold })?.run()
}
