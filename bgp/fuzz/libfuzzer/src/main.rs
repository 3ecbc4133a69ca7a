//! Gives a target of `margay-bgp-fuzz` what libFuzzer makes. The environment's `MARGAY_FUZZ_TARGET` names the target.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use margay_bgp_fuzz::{TARGETS, Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("MARGAY_FUZZ_TARGET").unwrap_or_default();
    TARGETS.into_iter().find(|(known, _)| *known == name).expect("MARGAY_FUZZ_TARGET names a target")
});

fuzz_target!(|data: &[u8]| (TARGET.1)(data));
