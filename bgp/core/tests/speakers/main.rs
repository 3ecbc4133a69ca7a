//! Whole speakers against each other, in memory and on a virtual clock.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bfd;
mod client;
mod drain;
mod dynamic;
mod groups;
mod limits;
mod network;
mod notifications;
mod refresh;
mod restart;
mod routes;
mod sessions;
mod simulation;
mod troubled;
mod waits;
