use std::fmt;

use super::words;

/// The most octets of text in a shutdown communication (RFC 9003 section 2).
pub const MAX_COMMUNICATION: usize = 255;

/// NOTIFICATION (RFC 4271 section 4.5): why a session ends. Any code and subcode can be held; the constructors make
/// those that the standards define.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    pub data: Vec<u8>,
}

/// Subcodes of Message Header Error (code 1, RFC 4271 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum HeaderError {
    ConnectionNotSynchronized = 1,
    BadMessageLength = 2,
    BadMessageType = 3,
}

/// Subcodes of OPEN Message Error (code 2, RFC 4271 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpenError {
    Unspecific = 0,
    UnsupportedVersion = 1,
    BadPeerAs = 2,
    BadBgpIdentifier = 3,
    UnsupportedOptionalParameter = 4,
    UnacceptableHoldTime = 6,
    /// RFC 5492.
    UnsupportedCapability = 7,
    /// RFC 9234.
    RoleMismatch = 11,
}

/// Subcodes of UPDATE Message Error (code 3, RFC 4271 section 6.3) that still end a session after RFC 7606.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum UpdateError {
    MalformedAttributeList = 1,
    UnrecognizedWellKnownAttribute = 2,
    MissingWellKnownAttribute = 3,
    AttributeFlagsError = 4,
    AttributeLengthError = 5,
    InvalidOrigin = 6,
    InvalidNextHop = 8,
    OptionalAttributeError = 9,
    InvalidNetworkField = 10,
    MalformedAsPath = 11,
}

/// Subcodes of Finite State Machine Error (code 5, RFC 6608).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FsmError {
    Unspecific = 0,
    UnexpectedInOpenSent = 1,
    UnexpectedInOpenConfirm = 2,
    UnexpectedInEstablished = 3,
}

/// Subcodes of Cease (code 6, RFC 4486, RFC 8538, RFC 9384).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cease {
    MaximumPrefixesReached = 1,
    AdministrativeShutdown = 2,
    PeerDeconfigured = 3,
    AdministrativeReset = 4,
    ConnectionRejected = 5,
    OtherConfigurationChange = 6,
    ConnectionCollisionResolution = 7,
    OutOfResources = 8,
    HardReset = 9,
    BfdDown = 10,
}

impl Notification {
    pub const MESSAGE_HEADER_ERROR: u8 = 1;
    pub const OPEN_MESSAGE_ERROR: u8 = 2;
    pub const UPDATE_MESSAGE_ERROR: u8 = 3;
    pub const HOLD_TIMER_EXPIRED: u8 = 4;
    pub const FSM_ERROR: u8 = 5;
    pub const CEASE: u8 = 6;
    pub const ROUTE_REFRESH_MESSAGE_ERROR: u8 = 7;
    pub const SEND_HOLD_TIMER_EXPIRED: u8 = 8;

    /// Makes a NOTIFICATION without data.
    pub fn new(code: u8, subcode: u8) -> Notification {
        Notification { code, subcode, data: Vec::new() }
    }

    /// Adds the data field.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Notification {
        self.data = data.into();
        self
    }

    /// Makes a Message Header Error.
    pub fn header(error: HeaderError) -> Notification {
        Notification::new(Notification::MESSAGE_HEADER_ERROR, error as u8)
    }

    /// Makes an OPEN Message Error.
    pub fn open(error: OpenError) -> Notification {
        Notification::new(Notification::OPEN_MESSAGE_ERROR, error as u8)
    }

    /// Makes an UPDATE Message Error.
    pub fn update(error: UpdateError) -> Notification {
        Notification::new(Notification::UPDATE_MESSAGE_ERROR, error as u8)
    }

    /// Makes Hold Timer Expired.
    pub fn hold_timer_expired() -> Notification {
        Notification::new(Notification::HOLD_TIMER_EXPIRED, 0)
    }

    /// Makes Send Hold Timer Expired (RFC 9687).
    pub fn send_hold_timer_expired() -> Notification {
        Notification::new(Notification::SEND_HOLD_TIMER_EXPIRED, 0)
    }

    /// Makes a Finite State Machine Error.
    pub fn fsm(error: FsmError) -> Notification {
        Notification::new(Notification::FSM_ERROR, error as u8)
    }

    /// Makes a Cease without data.
    pub fn cease(reason: Cease) -> Notification {
        Notification::new(Notification::CEASE, reason as u8)
    }

    /// Makes a Cease with a text for the peer's operator (RFC 9003), cut at 255 octets between characters. Only
    /// Administrative Shutdown and Administrative Reset carry it; any other reason leaves it out.
    pub fn cease_with_communication(reason: Cease, text: &str) -> Notification {
        let notification = Notification::cease(reason);
        if text.is_empty() || !notification.may_carry_communication() {
            return notification;
        }
        let text = &text[..text.floor_char_boundary(MAX_COMMUNICATION)];
        let mut data = Vec::with_capacity(1 + text.len());
        data.push(text.len() as u8);
        data.extend_from_slice(text.as_bytes());
        notification.with_data(data)
    }

    /// Wraps a NOTIFICATION in a Hard Reset, which a peer with graceful restart takes as the end of all its routes
    /// (RFC 8538 section 3).
    pub fn hard_reset(inner: Notification) -> Notification {
        let mut data = vec![inner.code, inner.subcode];
        data.extend(inner.data);
        Notification::cease(Cease::HardReset).with_data(data)
    }

    /// Tells whether this is a Cease / Hard Reset.
    pub fn is_hard_reset(&self) -> bool {
        (self.code, self.subcode) == (Notification::CEASE, Cease::HardReset as u8)
    }

    /// Returns what a Hard Reset wraps.
    pub fn hard_reset_reason(&self) -> Option<Notification> {
        match self.data.as_slice() {
            [code, subcode, data @ ..] if self.is_hard_reset() => {
                Some(Notification::new(*code, *subcode).with_data(data))
            }
            _ => None,
        }
    }

    /// Returns the text for the operator (RFC 9003), where there is a well-formed one. Control characters, with which
    /// a peer could forge log lines, are replaced.
    pub fn communication(&self) -> Option<String> {
        if let Some(inner) = self.hard_reset_reason() {
            return if inner.is_hard_reset() { None } else { inner.communication() };
        }
        let (&len, text) = self.data.split_first()?;
        if !self.may_carry_communication() || len == 0 || usize::from(len) > text.len() {
            return None;
        }
        let text = std::str::from_utf8(&text[..usize::from(len)]).ok()?;
        Some(text.replace(char::is_control, "\u{fffd}"))
    }

    fn may_carry_communication(&self) -> bool {
        self.code == Notification::CEASE
            && (self.subcode == Cease::AdministrativeShutdown as u8 || self.subcode == Cease::AdministrativeReset as u8)
    }
}

/// In words, then the numbers: `Cease: Administrative Reset (6/4): "maintenance until 10:00"`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(words::code(self.code))?;
        if let Some(subcode) = words::subcode(self.code, self.subcode) {
            write!(f, ": {subcode}")?;
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        if let Some(inner) = self.hard_reset_reason() {
            // One level is all that the RFC knows; a peer that nests them deeper isn't followed.
            return if inner.is_hard_reset() { Ok(()) } else { write!(f, " because of {inner}") };
        }
        match self.communication() {
            Some(text) => write!(f, ": \"{text}\""),
            None if self.data.is_empty() => Ok(()),
            None => words::data(f, &self.data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_reads_in_words() {
        for (notification, words) in [
            (Notification::hold_timer_expired(), "Hold Timer Expired (4/0)"),
            (Notification::send_hold_timer_expired(), "Send Hold Timer Expired (8/0)"),
            (Notification::cease(Cease::AdministrativeReset), "Cease: Administrative Reset (6/4)"),
            (Notification::open(OpenError::BadPeerAs), "OPEN Message Error: Bad Peer AS (2/2)"),
            (
                Notification::header(HeaderError::BadMessageLength).with_data([0, 18]),
                "Message Header Error: Bad Message Length (1/2), data 0012",
            ),
            (
                Notification::fsm(FsmError::UnexpectedInOpenSent),
                "Finite State Machine Error: Receive Unexpected Message in OpenSent State (5/1)",
            ),
            (
                Notification::hard_reset(Notification::cease(Cease::AdministrativeShutdown)),
                "Cease: Hard Reset (6/9) because of Cease: Administrative Shutdown (6/2)",
            ),
            (Notification::new(99, 7), "Unknown Error (99/7)"),
            (Notification::new(6, 77), "Cease (6/77)"),
        ] {
            assert_eq!(notification.to_string(), words);
        }
    }

    #[test]
    fn a_shutdown_communication_is_cut_between_characters() {
        let text = "é".repeat(200);
        let notification = Notification::cease_with_communication(Cease::AdministrativeShutdown, &text);
        assert_eq!(notification.data.len(), 255);
        assert_eq!(notification.data[0], 254);
        assert_eq!(notification.communication(), Some("é".repeat(127)));
        assert!(Notification::cease_with_communication(Cease::OutOfResources, "x").data.is_empty());
    }

    #[test]
    fn a_bad_shutdown_communication_is_no_text() {
        let shutdown = Notification::cease(Cease::AdministrativeShutdown);
        for data in [vec![], vec![0], vec![5, b'a'], vec![1, 0xff], vec![200; 150]] {
            assert_eq!(shutdown.clone().with_data(data).communication(), None);
        }
        let forged = shutdown.with_data(b"\x03a\nb".to_vec());
        assert_eq!(forged.to_string(), "Cease: Administrative Shutdown (6/2): \"a\u{fffd}b\"");
    }

    #[test]
    fn nested_hard_resets_end_at_the_first() {
        let mut notification = Notification::cease(Cease::HardReset);
        for _ in 0..1000 {
            notification = Notification::hard_reset(notification);
        }
        assert_eq!(notification.to_string(), "Cease: Hard Reset (6/9)");
        assert_eq!(notification.communication(), None);
    }
}
