//! Messages to their octets, header included.

mod attributes;
mod open;
mod update;

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{self, HEADER_LEN, MARKER, MAX_MESSAGE};
use super::message::{RefreshSubtype, RouteRefresh};
use super::notification::Notification;

pub use open::encode_open;
pub use update::{EncodeError, encode_announcements, encode_end_of_rib, encode_withdrawals};
pub(crate) use update::{append_announcements, append_withdrawals};

/// Encodes a NOTIFICATION; data beyond the longest message is cut off.
pub fn encode_notification(notification: &Notification) -> Bytes {
    let data = &notification.data[..notification.data.len().min(MAX_MESSAGE - HEADER_LEN - 2)];
    let mut message = begin(header::NOTIFICATION, HEADER_LEN + 2 + data.len());
    message.put_slice(&[notification.code, notification.subcode]);
    message.put_slice(data);
    message.freeze()
}

/// Encodes a KEEPALIVE; it is the same at all times, and never allocates.
pub fn encode_keepalive() -> Bytes {
    const KEEPALIVE: [u8; HEADER_LEN] = {
        let mut message = [0xff; HEADER_LEN];
        message[MARKER.len()] = 0;
        message[MARKER.len() + 1] = HEADER_LEN as u8;
        message[MARKER.len() + 2] = header::KEEPALIVE;
        message
    };
    Bytes::from_static(&KEEPALIVE)
}

/// Encodes a ROUTE-REFRESH.
pub fn encode_route_refresh(refresh: RouteRefresh) -> Bytes {
    let mut message = begin(header::ROUTE_REFRESH, HEADER_LEN + 4);
    message.put_u16(refresh.family.afi);
    message.put_u8(match refresh.subtype {
        RefreshSubtype::Request => 0,
        RefreshSubtype::Beginning => 1,
        RefreshSubtype::End => 2,
        RefreshSubtype::Unknown(subtype) => subtype,
    });
    message.put_u8(refresh.family.safi);
    message.freeze()
}

/// Begins a message of `len` octets in all, which the caller has made sure are at most [`MAX_MESSAGE`].
fn begin(kind: u8, len: usize) -> BytesMut {
    debug_assert!(len <= MAX_MESSAGE);
    let mut message = BytesMut::with_capacity(len);
    message.put_slice(&MARKER);
    message.put_u16(len as u16);
    message.put_u8(kind);
    message
}

/// Likewise, behind what is in `buf`.
fn begin_in(buf: &mut Vec<u8>, kind: u8, len: usize) {
    debug_assert!(len <= MAX_MESSAGE);
    buf.put_slice(&MARKER);
    buf.put_u16(len as u16);
    buf.put_u8(kind);
}
