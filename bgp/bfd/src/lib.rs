//! Bidirectional Forwarding Detection without IO: asynchronous mode of RFC 5880, over one hop (RFC 5881) and over
//! several (RFC 5883).
//!
//! [`Bfd`] is the whole of it. The caller owns the sockets and the clock:
//!
//! - what came in goes to [`Bfd::handle_input`] as an [`Input`], with the present as a [`margay_net::Now`];
//! - what must go out is taken from [`Bfd::poll_output`] until it answers `None`;
//! - when [`Bfd::poll_timeout`] has passed, [`Bfd::handle_timeout`] is called, *after* every packet that waits in a
//!   socket was handed in: a process that was kept from running must not take its own sleep for the peer's silence;
//! - what can be asked are [`Bfd::sessions`], [`Bfd::counters`] and [`Bfd::lateness`].
//!
//! Echo is not used (the required minimum echo interval sent is 0), demand mode is never asked for but honoured where
//! the peer asks for it, authentication is not supported (RFC 5880 section 6.7), and the C bit is always set: who runs
//! this is a process that outlives the control plane.

mod counters;
mod engine;
mod fsm;
mod io;
mod lateness;
mod packet;
mod session;
mod timing;

pub use counters::Counters;
pub use engine::{Bfd, Options};
pub use fsm::{FsmEvent, transition};
pub use io::{
    Arrival, Change, ConfigProblem, Discard, Event, Input, Output, Reason, SessionConfig, SessionKey, SessionView,
};
pub use lateness::Lateness;
pub use packet::{ControlPacket, Diagnostic, Discriminator, Malformed, State};
