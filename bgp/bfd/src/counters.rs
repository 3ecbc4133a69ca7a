use std::collections::BTreeMap;

use crate::io::Discard;

/// What passed, of all sessions that ever were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets that a session took.
    pub received: u64,
    pub sent: u64,
    /// Packets that no session took, by reason.
    pub discarded: BTreeMap<Discard, u64>,
    pub state_changes: u64,
}
