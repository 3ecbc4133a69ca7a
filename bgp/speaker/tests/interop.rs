//! Our speaker against routers of other makes, and against clients that break the protocol, over real kernel links.
//!
//! Needs root, and BIRD 2, FRR and GoBGP installed; an absent one fails its tests with the name of the package.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod interop {
    mod graceful_restart;
    mod load;
    mod malformed;
    mod peers;
    mod shell;
    mod socket_options;
}
mod support;
