//! Whole speakers against each other, in memory and on a virtual clock.
#![allow(clippy::unwrap_used)]

mod groups;
mod network;
mod next_hops;
mod restart;
mod routes;
mod sessions;
mod simulation;
