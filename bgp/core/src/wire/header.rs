use super::notification::{HeaderError, Notification};

/// The octets of the header (RFC 4271 section 4.1).
pub const HEADER_LEN: usize = 19;
/// The longest message, where extended messages (RFC 8654) are not negotiated.
pub const MAX_MESSAGE: usize = 4096;

pub(super) const MARKER: [u8; 16] = [0xff; 16];

pub(super) const OPEN: u8 = 1;
pub(super) const UPDATE: u8 = 2;
pub(super) const NOTIFICATION: u8 = 3;
pub(super) const KEEPALIVE: u8 = 4;
pub(super) const ROUTE_REFRESH: u8 = 5;

/// Tells how long the message at the start of `buf` is, as soon as its header is there; `None`: more is needed.
///
/// Checks marker, length and type in this order (RFC 4271 section 6.1), the marker as far as it is there. `max_len` is
/// [`MAX_MESSAGE`], or 65535 where extended messages are negotiated; OPEN and KEEPALIVE are never longer than
/// [`MAX_MESSAGE`] (RFC 8654 section 4). The message may be longer than `buf`.
pub fn frame(buf: &[u8], max_len: usize) -> Result<Option<usize>, Notification> {
    let marker = &buf[..buf.len().min(MARKER.len())];
    if marker.iter().any(|&octet| octet != 0xff) {
        return Err(Notification::header(HeaderError::ConnectionNotSynchronized));
    }
    let Some(&[high, low, kind]) = buf.get(MARKER.len()..HEADER_LEN) else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let bad_length = || Err(Notification::header(HeaderError::BadMessageLength).with_data([high, low]));
    if !(HEADER_LEN..=max_len).contains(&len) {
        return bad_length();
    }
    let allowed = match kind {
        OPEN => 29..=max_len.min(MAX_MESSAGE),
        UPDATE => 23..=max_len,
        NOTIFICATION => 21..=max_len,
        KEEPALIVE => HEADER_LEN..=HEADER_LEN,
        ROUTE_REFRESH => 23..=max_len,
        _ => return Err(Notification::header(HeaderError::BadMessageType).with_data([kind])),
    };
    if allowed.contains(&len) { Ok(Some(len)) } else { bad_length() }
}
