//! Whole speakers against each other, in memory and on a virtual clock.
#![allow(clippy::unwrap_used)]

mod add_path;
mod as_numbers;
mod bad_input;
mod bfd;
mod client;
mod communities;
mod crafted;
mod decisions;
mod drain;
mod dynamic;
mod edits;
mod groups;
mod kernel_first;
mod limits;
mod live;
#[allow(dead_code, reason = "simulations share it")]
mod network;
mod next_hops;
mod notifications;
mod ownership;
mod policy;
mod refresh;
mod restart;
mod routes;
mod sessions;
mod slices;
mod told_next_hops;
mod troubled;
mod waits;
mod why;
