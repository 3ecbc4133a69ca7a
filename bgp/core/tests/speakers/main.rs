//! Whole speakers against each other, in memory and on a virtual clock.
#![allow(clippy::unwrap_used)]

mod as_numbers;
mod communities;
mod crafted;
mod decisions;
mod groups;
mod live;
mod network;
mod ownership;
mod policy;
mod restart;
mod routes;
mod sessions;
mod simulation;
mod told_next_hops;
mod why;
