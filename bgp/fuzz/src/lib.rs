//! What is tried with random octets: each decoder of BGP and BFD, a speaker as a whole, and two ends of BFD sessions.
//!
//! A target is a function of octets that panics where something is wrong. `tests/replay.rs` gives each one the files of
//! `corpus/TARGET/` and a number of mutations of them, in every run of the tests. `libfuzzer/` gives it what libFuzzer
//! makes of the same files, led by the code that they reach, for as long as one likes:
//!
//! ```text
//! cargo fuzz-bgp update 3600
//! ```
//!
//! The corpus is what was written by hand, a few messages of each kind, and of what libFuzzer found the smallest files
//! that together reach all the code that it reached (`cargo fuzz-bgp --merge`).

mod bfd;
mod mutation;
mod script;
mod speaker;
mod wire;

pub use bfd::{packet as bfd_packet, session as bfd_session};
pub use mutation::Mutator;
pub use speaker::speaker;
pub use wire::{capabilities, frame, notification, open, route_refresh, update};

/// A target by its name, which is also that of its folder of the corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 9] = [
    ("frame", frame),
    ("open", open),
    ("capabilities", capabilities),
    ("update", update),
    ("notification", notification),
    ("route_refresh", route_refresh),
    ("speaker", speaker),
    ("bfd_packet", bfd_packet),
    ("bfd_session", bfd_session),
];
