//! The wire format of BGP-4 (RFC 4271): messages from octets and octets from messages, without state.
//!
//! [`frame`] cuts a stream in messages, [`decode`] reads one. Both answer what the peer did wrong with the
//! [`Notification`] to send. An error in the attributes of an UPDATE rarely ends a session (RFC 7606): it is treated, and
//! listed in [`Update::problems`]. [`encode_announcements`] and its siblings make whole messages, header included.

mod as_path;
mod attributes;
mod capability;
mod community;
mod context;
mod cursor;
mod decode;
mod encode;
mod header;
mod message;
mod nlri;
mod notification;
mod open;
pub(crate) mod packed;
mod problem;
mod update;
mod words;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use attributes::{
    Aggregator, AttributeType, Attributes, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL, FLAG_PARTIAL, FLAG_TRANSITIVE, Origin,
    RawAttribute,
};
pub use capability::{AddPath, Capability, ExtendedNextHop, GracefulRestart, GracefulRestartFamily};
pub use community::{Community, ExtendedCommunity, LargeCommunity};
pub use context::{AfiSafi, DecodeContext, FamilySet, PeerKind};
pub use decode::decode;
pub use encode::{
    EncodeError, encode_announcements, encode_end_of_rib, encode_keepalive, encode_notification, encode_open,
    encode_route_refresh, encode_withdrawals,
};
pub(crate) use encode::{append_announcements, append_withdrawals};
pub use header::{HEADER_LEN, MAX_MESSAGE, frame};
pub use message::{Announcement, Message, Open, RefreshSubtype, RouteRefresh, Update, Withdrawal};
pub use nlri::Nlri;
pub use notification::{Cease, FsmError, HeaderError, MAX_COMMUNICATION, Notification, OpenError, UpdateError};
pub use problem::{AttributeProblem, ProblemReason, Treatment};

#[cfg(test)]
mod tests;
