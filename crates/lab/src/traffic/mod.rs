//! Traffic between namespaces of a lab, and what is learned from it.
//!
//! A socket belongs to the namespace of the thread that opened it, so servers and clients are threads of the lab's own
//! process: nothing has to be installed in a pod.

mod capture;
mod flow;
mod parallel;
mod probe;
mod server;

pub use capture::{Capture, Captured};
pub use flow::{Flow, FlowReport, Loss};
pub use parallel::parallel;
pub use probe::{Answer, ping, tcp};
pub use server::Servers;

/// The TCP and UDP port that every pod and node of the demo serves, besides others.
pub const ECHO_PORT: u16 = 7007;
