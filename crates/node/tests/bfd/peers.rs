//! What the tests ask of a peer of another make.

use crate::lab::Process;

/// A session as the peer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub is_up: bool,
    /// Its negotiated interval of sending.
    pub interval_ms: u64,
    /// What we told it last, in its own words, where it tells.
    pub remote_diagnostic: String,
}

/// Of the BGP sessions that ask for BFD.
pub const OUR_ASN: u32 = 65001;
pub const PEER_ASN: u32 = 65002;
/// So long that BGP by itself notices nothing while a test runs.
pub const HOLD_SECONDS: u32 = 90;

pub trait Peer {
    /// What runs BFD.
    fn process(&self) -> &Process;

    fn seen(&self) -> Result<Seen, String>;

    /// Whether its BGP session is established, where it was started with one.
    fn bgp_is_up(&self) -> Result<bool, String>;

    /// How often its BGP session ended because BFD failed, by its own account.
    fn falls(&self) -> usize;
}

/// Fails the test in one line where a program is absent.
#[track_caller]
pub fn require(program: &str, package: &str) {
    let path = std::path::Path::new(program);
    let found =
        path.exists() || ["/usr/sbin", "/usr/bin"].iter().any(|dir| std::path::Path::new(dir).join(program).exists());
    assert!(found, "{program} is not installed: apt-get install {package}");
}
