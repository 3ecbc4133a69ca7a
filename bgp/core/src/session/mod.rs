//! Peers and their connections: the state around the machine of [`crate::fsm`].

mod connection;
mod limit;
mod open;
mod peer;

pub(crate) use connection::{Connection, Direction};
pub(crate) use limit::{EventLimit, Telling};
pub(crate) use open::{LocalOpen, Negotiated, keepalive};
pub(crate) use peer::{Hold, Peer, Retained, Slot};
