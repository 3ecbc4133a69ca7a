#![allow(clippy::unwrap_used)]

mod bench;
mod bgp;
mod drift;
mod for_bgp;
mod local;
mod recursion;
