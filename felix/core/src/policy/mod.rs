//! From policies, profiles and endpoints to the lookup tables that the kernel evaluates.
//!
//! ```text
//!  endpoints -> shapes (same labels, profiles, ports)     policies, profiles
//!                 |        \                                   |
//!                 |         +------- label index --------------+
//!                 v                                            v
//!            facts: which matchers of                 programs: the ordered rules
//!            active programs match                    of a local endpoint and direction
//!                 |                                            |
//!   address -> identity: same facts of selectors and nets      |
//!                 +------------------- allows -----------------+
//! ```
//!
//! Every update is worked in at once, touching only what depends on it: a change of labels leads by the index to the
//! selectors that ask for them, a new selector to the shapes that have them. Where all members of a class or program
//! change alike, it keeps its number, so that the kernel's elements stay.

mod addresses;
mod changelog;
mod compiler;
mod connections;
mod drafts;
mod endpoints;
mod evaluate;
mod explain;
mod identities;
mod ids;
mod labels;
mod matchers;
mod profiles;
mod programs;
mod rules;
mod sets;
mod tables;

pub use compiler::{PolicyCore, PolicyProblem};
pub use explain::{Cause, End, ExplainError, Explanation, Judgement, Miss, MissReason, Party, RuleRef, Verdict};
pub use tables::{
    Allow, Direction, EndpointPrograms, IdentityId, PolicyChanges, PolicyTables, PortMatch, ProgramId, ProtocolMatch,
};
