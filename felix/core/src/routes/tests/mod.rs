#![allow(clippy::unwrap_used)]

mod bench;
mod bgp;
mod drift;
mod local;
mod recursion;
