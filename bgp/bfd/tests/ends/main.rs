//! Two ends of BFD sessions in memory, on a virtual clock.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod administration;
mod network;
mod packets;
mod random;
mod sessions;
mod starvation;
mod timers;
