//! The tokio shell around the BGP speaker of [`margay_bgp_core`]: sockets, timers, TCP-MD5 and GTSM.
//!
//! In a daemon the speaker has a thread of its own ([`spawn_thread`]). One task owns the core; everything else is at its
//! edges and talks to it through bounded queues:
//!
//! ```text
//!  SpeakerHandle ----requests---->+-----------+----FibBatch----> felix
//!  listener task ----accepted---->|   task    |----Event-------> events()
//!  reader tasks  ----bytes------->|  (core)   |----bytes-------> outboxes (writer tasks)
//! ```
//!
//! - A reader has at most two buffers of 64 KiB on their way to the core, so that a peer with a full table in flight
//!   takes its turn like any other.
//! - Small messages are written by the task itself; a writer takes over where a peer's socket is full or much is
//!   queued.
//! - The hold timer of a peer whose bytes wait for their turn does not expire: it is this node that is busy.
//! - What a peer doesn't read is bounded by the core, which hands out no more routes until the queue is empty, and ends
//!   the session when that takes too long (RFC 9687).
//! - Batches for felix that find its queue full are merged by prefix and wait aside: sessions never wait for the
//!   kernel's routes.

mod clock;
mod connection;
mod fib;
mod handle;
mod listener;
mod outbox;
mod socket;
mod task;
mod thread;

pub use handle::{ConfigureError, RoutePages, SpeakerGone, SpeakerHandle};
pub use listener::{ListenSocketState, ListenStatus, ListenerState};
pub use margay_bgp_core as core;
pub use task::{SpeakerOptions, spawn};
pub use thread::spawn_thread;
