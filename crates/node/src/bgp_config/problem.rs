//! What of the resources can't be followed.

use std::fmt;

/// What of the resources could not be followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlanProblem {
    /// The kind and name of the object, as in `BGPPeer tor-a1`.
    pub(crate) object: String,
    pub(crate) cause: Cause,
    /// With advice.
    pub(crate) reason: String,
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// A password that can't be read.
    Secret,
    Filter,
    Community,
    Selector,
    /// Fields that a session needs.
    Incomplete,
    /// Another object's session has the address.
    AddressInUse,
}

/// What keeps a session from being configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub(super) cause: Cause,
    /// With advice.
    pub(super) reason: String,
}
