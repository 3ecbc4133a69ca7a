//! BFD: its only decoder, and its engine at both ends of some sessions.

mod end;
mod packet;
mod session;

pub use packet::packet;
pub use session::session;
