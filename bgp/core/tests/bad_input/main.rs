//! A speaker against peers that send what they must not: every message of the list of known failures of other speakers,
//! in every state of the session.
//!
//! Each row says in words what is wrong, and what must follow in each state. For all of them: nothing panics, the other
//! session goes on, and a session that stays up takes the next good message.
#![allow(clippy::unwrap_used)]

mod behaviour;
mod egress;
mod opens;
mod others;
mod rows;
mod updates;
mod world;
