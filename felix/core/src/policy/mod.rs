//! From policies, profiles and endpoints to the lookup tables that the kernel evaluates.
//!
//! ```text
//!  policies, profiles --+                        +--> programs: resolved rules of an endpoint and direction
//!                       +--> resolve (rules.rs) -+
//!  endpoints -----------+                        +--> matchers --> identities (identity.rs)
//!                                                          programs x identities --> allows (flatten.rs)
//! ```

mod explain;
mod flatten;
mod ids;
mod identity;
mod rules;
mod state;
mod tables;

pub use explain::{Explanation, Party, Verdict};
pub use state::PolicyCore;
pub use tables::{
    Allow, Direction, EndpointPrograms, IdentityId, PolicyChanges, PolicyTables, PortMatch, ProgramId, ProtocolMatch,
};
