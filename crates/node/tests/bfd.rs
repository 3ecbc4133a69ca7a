//! `margayd bfd` against the BFD of BIRD and FRR, and against packets that no BFD sends, over real kernel links.
//!
//! `matrix` tries what BIRD and FRR have, and writes the table of `docs/interop.md`.
//!
//! Needs root, BIRD 2 and FRR; an absent one fails its tests with the name of the package. All daemons run with real-time
//! priority, so that a busy machine isn't taken for a failure.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "bfd/bgp.rs"]
mod bgp;
#[path = "bfd/bird.rs"]
mod bird;
#[path = "bfd/busy.rs"]
mod busy;
#[path = "bfd/client.rs"]
mod client;
#[path = "bfd/crafted.rs"]
mod crafted;
#[path = "../../../bgp/speaker/tests/support/document.rs"]
mod document;
#[path = "bfd/frr.rs"]
mod frr;
#[path = "bfd/lab.rs"]
mod lab;
#[path = "bfd/life.rs"]
mod life;
#[path = "bfd/margay.rs"]
mod margay;
#[path = "bfd/matrix.rs"]
mod matrix;
#[path = "bfd/peers.rs"]
mod peers;
