use margay_bfd::{ControlPacket, Malformed, State};

/// A UDP payload. What is refused breaks the rule that is named, what is taken breaks none and says what its octets say.
pub fn packet(data: &[u8]) {
    match ControlPacket::decode(data) {
        Ok(packet) => check_taken(&packet, data),
        Err(malformed) => assert!(breaks(data, malformed), "{malformed}"),
    }
}

fn check_taken(packet: &ControlPacket, data: &[u8]) {
    for rule in RULES {
        assert!(!breaks(data, rule), "taken, although {rule}");
    }
    let again = packet.encode();
    assert_eq!(ControlPacket::decode(&again), Ok(*packet));
    // All but the length, which may be of more than the header.
    assert_eq!((&again[..3], &again[4..]), (&data[..3], &data[4..24]));
    assert_eq!(ControlPacket::decode(&data[..usize::from(data[3])]), Ok(*packet), "what comes after its end counts");
    assert!(!packet.diagnostic.to_string().is_empty() && !packet.state.to_string().is_empty());
}

const RULES: [Malformed; 8] = [
    Malformed::Truncated,
    Malformed::Version,
    Malformed::Length,
    Malformed::DetectMultiplier,
    Malformed::Multipoint,
    Malformed::MyDiscriminator,
    Malformed::YourDiscriminator,
    Malformed::Authentication,
];

/// Whether a payload breaks a rule of RFC 5880 section 6.8.6.
fn breaks(data: &[u8], rule: Malformed) -> bool {
    let octet = |place: usize| data.get(place).copied().unwrap_or_default();
    let is_zero = |place: usize| (place..place + 4).all(|place| octet(place) == 0);
    let authenticated = octet(1) & 0x04 != 0;
    match rule {
        Malformed::Truncated => data.len() < 24,
        Malformed::Version => octet(0) >> 5 != 1,
        Malformed::Length => octet(3) < if authenticated { 26 } else { 24 } || usize::from(octet(3)) > data.len(),
        Malformed::DetectMultiplier => octet(2) == 0,
        Malformed::Multipoint => octet(1) & 0x01 != 0,
        Malformed::MyDiscriminator => is_zero(4),
        Malformed::YourDiscriminator => is_zero(8) && octet(1) >> 6 >= State::Init as u8,
        Malformed::Authentication => authenticated,
    }
}
