//! Our speaker against routers of other makes, and against clients that break the protocol, over real kernel links.
//!
//! `interop` looks closely at single peers with a thousand routes; `matrix` tries every feature with every peer that has it
//! and `crafted` has ExaBGP send what no router sends; both write tables of `docs/interop.md`.
//!
//! Needs root, and BIRD 2, FRR, GoBGP, OpenBGPD and ExaBGP installed; an absent one fails its tests with the name of the package.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod interop {
    mod graceful_restart;
    mod load;
    mod malformed;
    mod peers;
    mod queries;
    mod resets;
    mod shell;
    mod socket_options;
}
mod crafted;
mod matrix;
mod support;
