use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// The state of a session, as its number on the wire says it (RFC 5880 section 4.1, Sta).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    AdminDown = 0,
    Down = 1,
    Init = 2,
    Up = 3,
}

impl State {
    /// All states in the order of their numbers.
    pub const ALL: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        })
    }
}

/// Why a session changed its state last (RFC 5880 section 4.1, Diag): five bits, unknown values survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Diagnostic(u8);

impl Diagnostic {
    pub const NONE: Diagnostic = Diagnostic(0);
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    pub const ECHO_FAILED: Diagnostic = Diagnostic(2);
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    pub const FORWARDING_PLANE_RESET: Diagnostic = Diagnostic(4);
    pub const PATH_DOWN: Diagnostic = Diagnostic(5);
    pub const CONCATENATED_PATH_DOWN: Diagnostic = Diagnostic(6);
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);
    pub const REVERSE_CONCATENATED_PATH_DOWN: Diagnostic = Diagnostic(8);

    /// Takes the lower five bits of a value.
    pub fn new(value: u8) -> Diagnostic {
        Diagnostic(value & 0x1f)
    }

    /// The number on the wire.
    pub fn code(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Diagnostic::NONE => "no diagnostic",
            Diagnostic::DETECTION_TIME_EXPIRED => "control detection time expired",
            Diagnostic::ECHO_FAILED => "echo function failed",
            Diagnostic::NEIGHBOR_SIGNALED_DOWN => "neighbor signaled session down",
            Diagnostic::FORWARDING_PLANE_RESET => "forwarding plane reset",
            Diagnostic::PATH_DOWN => "path down",
            Diagnostic::CONCATENATED_PATH_DOWN => "concatenated path down",
            Diagnostic::ADMINISTRATIVELY_DOWN => "administratively down",
            Diagnostic::REVERSE_CONCATENATED_PATH_DOWN => "reverse concatenated path down",
            Diagnostic(other) => return write!(f, "diagnostic {other}"),
        })
    }
}

/// What names a session on one of its ends; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Discriminator(pub NonZeroU32);

impl fmt::Display for Discriminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// A control packet without authentication section (RFC 5880 section 4.1).
///
/// Intervals are whole microseconds up to `u32::MAX`; a longer one is sent as the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlPacket {
    pub diagnostic: Diagnostic,
    pub state: State,
    pub poll: bool,
    pub final_: bool,
    pub control_plane_independent: bool,
    pub demand: bool,
    /// Not zero in a packet that was decoded.
    pub detect_multiplier: u8,
    pub my_discriminator: Discriminator,
    pub your_discriminator: Option<Discriminator>,
    pub desired_min_tx: Duration,
    pub required_min_rx: Duration,
    pub required_min_echo_rx: Duration,
}

/// Which reception rule of RFC 5880 section 6.8.6 a packet breaks by itself, whatever the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than a control packet's 24 bytes")]
    Truncated,
    #[error("the version is not 1")]
    Version,
    #[error("the length is less than the header's, or more than what arrived")]
    Length,
    #[error("the detection multiplier is 0")]
    DetectMultiplier,
    #[error("the multipoint bit is set")]
    Multipoint,
    #[error("my discriminator is 0")]
    MyDiscriminator,
    #[error("your discriminator is 0 in state Init or Up")]
    YourDiscriminator,
    #[error("it carries authentication, and the session uses none")]
    Authentication,
}

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

impl ControlPacket {
    /// The length of an encoded packet in bytes.
    pub const LEN: usize = 24;
    /// The least length of a packet with an authentication section.
    const LEN_AUTHENTICATED: usize = 26;

    /// Writes the packet in network byte order.
    pub fn encode(&self) -> [u8; ControlPacket::LEN] {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut bytes = [0; ControlPacket::LEN];
        bytes[0] = VERSION << 5 | self.diagnostic.0;
        bytes[1] = (self.state as u8) << 6
            | bit(self.poll, POLL)
            | bit(self.final_, FINAL)
            | bit(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | bit(self.demand, DEMAND);
        bytes[2] = self.detect_multiplier;
        bytes[3] = ControlPacket::LEN as u8;
        let words = [
            self.my_discriminator.0.get(),
            self.your_discriminator.map_or(0, |discriminator| discriminator.0.get()),
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            micros(self.required_min_echo_rx),
        ];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Reads a UDP payload; the rules of RFC 5880 section 6.8.6 that need no session are applied in their order.
    ///
    /// Bytes after the packet's own length are left alone.
    pub fn decode(payload: &[u8]) -> Result<ControlPacket, Malformed> {
        let bytes: &[u8; ControlPacket::LEN] = payload.first_chunk().ok_or(Malformed::Truncated)?;
        let [first, flags, detect_multiplier, length, ..] = *bytes;
        let word = |n: usize| u32::from_be_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
        let authenticated = flags & AUTHENTICATION != 0;
        let least = if authenticated { ControlPacket::LEN_AUTHENTICATED } else { ControlPacket::LEN };
        if first >> 5 != VERSION {
            return Err(Malformed::Version);
        }
        if usize::from(length) < least || usize::from(length) > payload.len() {
            return Err(Malformed::Length);
        }
        if detect_multiplier == 0 {
            return Err(Malformed::DetectMultiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        let discriminator = |word: u32| NonZeroU32::new(word).map(Discriminator);
        let my_discriminator = discriminator(word(4)).ok_or(Malformed::MyDiscriminator)?;
        let your_discriminator = discriminator(word(8));
        let state = State::ALL[usize::from(flags >> 6)];
        if your_discriminator.is_none() && matches!(state, State::Init | State::Up) {
            return Err(Malformed::YourDiscriminator);
        }
        if authenticated {
            return Err(Malformed::Authentication);
        }
        let interval = |n: usize| Duration::from_micros(word(n).into());
        Ok(ControlPacket {
            diagnostic: Diagnostic::new(first),
            state,
            poll: flags & POLL != 0,
            final_: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: interval(12),
            required_min_rx: interval(16),
            required_min_echo_rx: interval(20),
        })
    }
}

fn micros(interval: Duration) -> u32 {
    interval.as_micros().try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// State Up, detection multiplier 3, discriminators 1 and 2, 100 ms, 50 ms, no echo.
    const UP: [u8; 24] = [0x20, 0xc8, 3, 24, 0, 0, 0, 1, 0, 0, 0, 2, 0, 1, 0x86, 0xa0, 0, 0, 0xc3, 0x50, 0, 0, 0, 0];

    fn discriminator(value: u32) -> Discriminator {
        Discriminator(NonZeroU32::new(value).unwrap())
    }

    #[test]
    fn a_packet_is_read_and_written_as_the_rfc_draws_it() {
        let packet = ControlPacket {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            poll: false,
            final_: false,
            control_plane_independent: true,
            demand: false,
            detect_multiplier: 3,
            my_discriminator: discriminator(1),
            your_discriminator: Some(discriminator(2)),
            desired_min_tx: Duration::from_millis(100),
            required_min_rx: Duration::from_millis(50),
            required_min_echo_rx: Duration::ZERO,
        };
        assert_eq!(packet.encode(), UP);
        assert_eq!(ControlPacket::decode(&UP), Ok(packet));
    }

    /// Every rule of RFC 5880 section 6.8.6 that needs no session: which bytes are changed, and what comes of it.
    #[test]
    fn each_reception_rule_has_its_own_refusal() {
        type Case = (&'static str, &'static [(usize, u8)], Option<Malformed>);
        let cases: [Case; 19] = [
            ("as it is", &[], None),
            ("version 0", &[(0, 0x00)], Some(Malformed::Version)),
            ("version 2", &[(0, 0x40)], Some(Malformed::Version)),
            ("version 7", &[(0, 0xe0)], Some(Malformed::Version)),
            ("length 23", &[(3, 23)], Some(Malformed::Length)),
            ("length 0", &[(3, 0)], Some(Malformed::Length)),
            ("a length of more than arrived", &[(3, 25)], Some(Malformed::Length)),
            ("authentication in 24 bytes", &[(1, 0xcc)], Some(Malformed::Length)),
            ("authentication in 25 bytes", &[(1, 0xcc), (3, 25)], Some(Malformed::Length)),
            ("multiplier 0", &[(2, 0)], Some(Malformed::DetectMultiplier)),
            ("multiplier 255", &[(2, 255)], None),
            ("multipoint", &[(1, 0xc9)], Some(Malformed::Multipoint)),
            ("my discriminator 0", &[(7, 0)], Some(Malformed::MyDiscriminator)),
            ("your discriminator 0 in Up", &[(11, 0)], Some(Malformed::YourDiscriminator)),
            ("your discriminator 0 in Init", &[(11, 0), (1, 0x88)], Some(Malformed::YourDiscriminator)),
            ("your discriminator 0 in Down", &[(11, 0), (1, 0x48)], None),
            ("your discriminator 0 in AdminDown", &[(11, 0), (1, 0x08)], None),
            ("poll and final", &[(1, 0xf8)], None),
            ("an unknown diagnostic", &[(0, 0x3f)], None),
        ];
        for (name, changes, refusal) in cases {
            let mut bytes = UP;
            for &(place, value) in changes {
                bytes[place] = value;
            }
            assert_eq!(ControlPacket::decode(&bytes).err(), refusal, "{name}");
        }
        let mut authenticated = [0; 28];
        authenticated[..24].copy_from_slice(&UP);
        authenticated[1] = 0xcc;
        authenticated[3] = 28;
        assert_eq!(ControlPacket::decode(&authenticated), Err(Malformed::Authentication));
        for length in 0..24 {
            assert_eq!(ControlPacket::decode(&UP[..length]), Err(Malformed::Truncated), "{length} bytes");
        }
        // UDP may bring more than the packet says.
        let mut longer = UP.to_vec();
        longer.extend([9; 8]);
        assert_eq!(ControlPacket::decode(&longer), ControlPacket::decode(&UP));
    }

    fn packets() -> impl Strategy<Value = ControlPacket> {
        let flags = any::<[bool; 4]>();
        let numbers = (1u32.., any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
        (0u8..32, 0usize..4, flags, 1u8.., numbers).prop_map(|(diagnostic, state, flags, multiplier, numbers)| {
            let (mine, yours, tx, rx, echo) = numbers;
            let yours = if state >= 2 { yours.max(1) } else { yours };
            let micros = |value: u32| Duration::from_micros(value.into());
            ControlPacket {
                diagnostic: Diagnostic::new(diagnostic),
                state: State::ALL[state],
                poll: flags[0],
                final_: flags[1],
                control_plane_independent: flags[2],
                demand: flags[3],
                detect_multiplier: multiplier,
                my_discriminator: discriminator(mine),
                your_discriminator: NonZeroU32::new(yours).map(Discriminator),
                desired_min_tx: micros(tx),
                required_min_rx: micros(rx),
                required_min_echo_rx: micros(echo),
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(packet in packets()) {
            prop_assert_eq!(ControlPacket::decode(&packet.encode()), Ok(packet));
        }

        #[test]
        fn any_bytes_are_refused_or_written_back_as_they_were(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(packet) = ControlPacket::decode(&bytes) {
                let again = packet.encode();
                // The length may have been more than the header's.
                prop_assert_eq!(&again[..3], &bytes[..3]);
                prop_assert_eq!(&again[4..], &bytes[4..24]);
            }
        }

        #[test]
        fn nearly_right_bytes_too(mut bytes in packets().prop_map(|packet| packet.encode()), place in 0usize..24, value: u8) {
            bytes[place] = value;
            if let Ok(packet) = ControlPacket::decode(&bytes) {
                prop_assert_eq!(packet.encode(), bytes);
            }
        }
    }

    #[test]
    fn an_interval_that_the_wire_has_no_room_for_is_sent_as_the_longest() {
        let mut packet = ControlPacket::decode(&UP).unwrap();
        packet.desired_min_tx = Duration::from_secs(86_400);
        let read = ControlPacket::decode(&packet.encode()).unwrap();
        assert_eq!(read.desired_min_tx, Duration::from_micros(u32::MAX.into()));
    }
}
