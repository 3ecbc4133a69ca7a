//! One message from its octets.

use super::context::{AfiSafi, DecodeContext};
use super::cursor::Cursor;
use super::header::{self, HEADER_LEN, frame};
use super::message::{Message, RefreshSubtype, RouteRefresh};
use super::notification::{HeaderError, Notification};
use super::{open, update};

/// Decodes a whole message, as cut by [`frame`].
///
/// The error is the NOTIFICATION to send before the session is closed, with code, subcode and data of RFC 4271 section 6
/// or the RFC that defines the field.
pub fn decode(message: &[u8], context: &DecodeContext) -> Result<Message, Notification> {
    if frame(message, usize::from(u16::MAX))? != Some(message.len()) {
        let length = message.get(16..18).unwrap_or_default();
        return Err(Notification::header(HeaderError::BadMessageLength).with_data(length));
    }
    let (header, body) = message.split_at(HEADER_LEN);
    Ok(match header[HEADER_LEN - 1] {
        header::OPEN => Message::Open(open::decode(body)?),
        header::UPDATE => Message::Update(update::decode(body, context)?),
        header::NOTIFICATION => Message::Notification(notification(body)),
        header::KEEPALIVE => Message::Keepalive,
        _ => Message::RouteRefresh(route_refresh(message, body)?),
    })
}

/// Reads a NOTIFICATION, against which there is nothing to answer.
fn notification(body: &[u8]) -> Notification {
    match *body {
        [code, subcode, ref data @ ..] => Notification::new(code, subcode).with_data(data),
        _ => Notification::new(0, 0),
    }
}

/// Reads a ROUTE-REFRESH. What follows the family in a request are ORF entries (RFC 5291), which are never negotiated
/// and so ignored.
fn route_refresh(message: &[u8], body: &[u8]) -> Result<RouteRefresh, Notification> {
    let bad_length = || Notification::new(Notification::ROUTE_REFRESH_MESSAGE_ERROR, 1).with_data(message);
    let mut cursor = Cursor::new(body, HEADER_LEN);
    let [afi_high, afi_low, subtype, safi] = cursor.array().ok_or_else(bad_length)?;
    let subtype = match subtype {
        0 => RefreshSubtype::Request,
        1 => RefreshSubtype::Beginning,
        2 => RefreshSubtype::End,
        other => RefreshSubtype::Unknown(other),
    };
    if matches!(subtype, RefreshSubtype::Beginning | RefreshSubtype::End) && !cursor.is_empty() {
        return Err(bad_length());
    }
    Ok(RouteRefresh { family: AfiSafi { afi: u16::from_be_bytes([afi_high, afi_low]), safi }, subtype })
}
