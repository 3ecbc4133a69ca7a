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

pub trait Peer {
    fn process(&self) -> &Process;
    fn seen(&self) -> Result<Seen, String>;
}

/// Fails the test in one line where a program is absent.
#[track_caller]
pub fn require(program: &str, package: &str) {
    let path = std::path::Path::new(program);
    let found =
        path.exists() || ["/usr/sbin", "/usr/bin"].iter().any(|dir| std::path::Path::new(dir).join(program).exists());
    assert!(found, "{program} is not installed: apt-get install {package}");
}
