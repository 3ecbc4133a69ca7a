//! RFC 7606 in whole: each attribute that is known, with all flags and all lengths, from external and internal peers of
//! four-octet and of two-octet AS numbers.

use super::super::{DecodeContext, PeerKind};
use super::rfc7606_table::{Outcome, goes_on, outcome_of};
use super::{context, decode_update, hex, update_message};

use Outcome::{Discard, Reset, Taken, Withdraw};

/// A known attribute, and what becomes of the route by what is wrong with it.
struct Known {
    kind: u8,
    /// Optional and transitive, as they must be.
    flags: u8,
    /// A value, of which repetitions are values as long as `length` allows them.
    value: &'static str,
    length: fn(usize) -> bool,
    /// From a peer that may send it: with good flags and length, with other flags, with another length.
    taken: Outcome,
    bad_flags: Outcome,
    bad_length: Outcome,
    from: From,
    /// Whether what is taken is passed on to others.
    goes_on: bool,
}

/// Who may send an attribute; from anyone else it is discarded, however it looks.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Anyone,
    Internal,
    TwoOctet,
}

const WELL_KNOWN: u8 = 0x40;
const TRANSITIVE: u8 = 0xc0;
const NON_TRANSITIVE: u8 = 0x80;

const fn known(kind: u8, flags: u8, value: &'static str, length: fn(usize) -> bool) -> Known {
    Known {
        kind,
        flags,
        value,
        length,
        taken: Taken,
        bad_flags: Withdraw,
        bad_length: Withdraw,
        from: From::Anyone,
        goes_on: true,
    }
}

/// Non-zero multiples.
fn some<const N: usize>(len: usize) -> bool {
    len > 0 && len.is_multiple_of(N)
}

fn all(four_octet: bool) -> Vec<Known> {
    vec![
        known(1, WELL_KNOWN, "00", |len| len == 1),
        if four_octet {
            known(2, WELL_KNOWN, "0201 0000fde9", |len| len.is_multiple_of(6))
        } else {
            known(2, WELL_KNOWN, "0201 fde9", |len| len.is_multiple_of(4))
        },
        known(3, WELL_KNOWN, "c0000201", |len| len == 4),
        known(4, NON_TRANSITIVE, "00000001", |len| len == 4),
        Known { from: From::Internal, ..known(5, WELL_KNOWN, "00000001", |len| len == 4) },
        Known { bad_length: Discard, ..known(6, WELL_KNOWN, "00", |len| len == 0) },
        Known {
            bad_length: Discard,
            ..if four_octet {
                known(7, TRANSITIVE, "0000fde9 c0000201", |len| len == 8)
            } else {
                known(7, TRANSITIVE, "fde9 c0000201", |len| len == 6)
            }
        },
        known(8, TRANSITIVE, "fde90001", some::<4>),
        Known { from: From::Internal, ..known(9, NON_TRANSITIVE, "0a000001", |len| len == 4) },
        Known { from: From::Internal, ..known(10, NON_TRANSITIVE, "0a000001", some::<4>) },
        known(16, TRANSITIVE, "0002fde900000001", some::<8>),
        // A path without AS numbers beyond 65535 goes on in AS_PATH.
        Known {
            bad_length: Discard,
            from: From::TwoOctet,
            goes_on: false,
            ..known(17, TRANSITIVE, "0201 0000fde9", some::<6>)
        },
        Known {
            bad_length: Discard,
            from: From::TwoOctet,
            goes_on: false,
            ..known(18, TRANSITIVE, "0000fde9 c0000201", |len| len == 8)
        },
        known(23, TRANSITIVE, "0008 0000", some::<4>),
        known(25, TRANSITIVE, "0002 20010db8000000000000000000000001 0064", some::<20>),
        Known { bad_flags: Discard, goes_on: false, ..known(26, NON_TRANSITIVE, "01 000b 0000000000000001", |_| true) },
        known(32, TRANSITIVE, "0000fde9 00000001 00000002", some::<12>),
        known(35, TRANSITIVE, "0000fde9", |len| len == 4),
        Known {
            bad_flags: Discard,
            bad_length: Discard,
            ..known(40, TRANSITIVE, "01 0007 00 0000 00000064", some::<10>)
        },
    ]
}

impl Known {
    fn may_send(&self, context: &DecodeContext) -> bool {
        match self.from {
            From::Anyone => true,
            From::Internal => context.peer_kind == PeerKind::Internal,
            From::TwoOctet => !context.four_octet_asn,
        }
    }

    /// The attribute with a value of `len` octets.
    fn octets(&self, flags: u8, len: usize) -> Vec<u8> {
        let mut octets = vec![flags & !0x10, self.kind, u8::try_from(len).unwrap()];
        octets.extend(hex(self.value).into_iter().cycle().take(len));
        octets
    }

    /// A length that is allowed.
    fn good_length(&self) -> usize {
        let whole = hex(self.value).len();
        if (self.length)(whole) { whole } else { 0 }
    }

    fn check(&self, flags: u8, len: usize, context: &DecodeContext) {
        let flags_fit = flags & 0xc0 == self.flags;
        let expected = match (self.may_send(context), flags_fit, (self.length)(len)) {
            (false, ..) => Discard,
            (true, false, _) => self.bad_flags,
            (true, true, false) => self.bad_length,
            (true, true, true) => self.taken,
        };
        let octets = self.octets(flags, len);
        let what = || format!("type {} flags {flags:02x} length {len} from {context:?}", self.kind);
        assert_eq!(outcome_of(&octets, context), expected, "{}", what());
        if expected == Taken {
            let mut attributes = octets;
            attributes.extend(
                [(1, "400101 00"), (3, "400304 c0000201"), (5, "400504 00000064")]
                    .iter()
                    .flat_map(|(kind, good)| if *kind == self.kind { Vec::new() } else { hex(good) }),
            );
            if self.kind != 2 {
                attributes.extend(hex(if context.four_octet_asn { "400206 02010000fde9" } else { "400204 0201fde9" }));
            }
            let update = decode_update(&update_message(&[], &attributes, &hex("18 0a0102")), context).unwrap();
            assert_eq!(goes_on(&update, self.kind), self.goes_on, "{}", what());
        }
    }
}

fn contexts() -> Vec<DecodeContext> {
    let mut contexts = Vec::new();
    for peer_kind in [PeerKind::External, PeerKind::Internal] {
        for four_octet_asn in [true, false] {
            contexts.push(DecodeContext { four_octet_asn, ..context(peer_kind) });
        }
    }
    contexts
}

#[test]
fn every_known_attribute_with_every_value_of_the_flags() {
    for context in contexts() {
        for known in all(context.four_octet_asn) {
            // The extended length bit says how the length is written; it is told apart below.
            for flags in (0..=255u8).filter(|flags| flags & 0x10 == 0) {
                known.check(flags, known.good_length(), &context);
            }
        }
    }
}

#[test]
fn every_known_attribute_with_every_length_up_to_64_octets() {
    for context in contexts() {
        for known in all(context.four_octet_asn) {
            for len in 0..=64 {
                known.check(known.flags, len, &context);
            }
        }
    }
}

#[test]
fn the_form_of_the_length_field_changes_no_outcome() {
    for context in contexts() {
        for known in all(context.four_octet_asn) {
            for len in 0..=24u16 {
                let short = known.octets(known.flags, usize::from(len));
                let mut long = vec![known.flags | 0x10, known.kind];
                long.extend(len.to_be_bytes());
                long.extend(&short[3..]);
                assert_eq!(outcome_of(&long, &context), outcome_of(&short, &context), "type {}", known.kind);
            }
        }
    }
}

#[test]
fn an_attribute_that_nobody_knows_is_passed_on_ignored_or_resets_by_its_flags() {
    let known: Vec<u8> = all(true).iter().map(|known| known.kind).chain([14, 15]).collect();
    for context in contexts() {
        for kind in (0..=255).filter(|kind| !known.contains(kind)) {
            for len in [0u8, 1, 4, 255] {
                for (flags, expected) in [(0x00, Reset(2)), (0x40, Reset(2)), (0x80, Taken), (0xc0, Taken)] {
                    let mut octets = vec![flags, kind, len];
                    octets.extend(std::iter::repeat_n(0x55, usize::from(len)));
                    assert_eq!(outcome_of(&octets, &context), expected, "type {kind} flags {flags:02x} length {len}");
                }
            }
        }
    }
}

/// Routes of another family than those beside it, so that both are seen.
#[test]
fn multiprotocol_attributes_with_wrong_flags_withdraw_their_routes_and_those_beside() {
    let next_hop = "20010db8000000000000000000000001";
    let mandatory = "400101 00 400206 02010000fde9 400304 c0000201 400504 00000064";
    for peer_kind in [PeerKind::External, PeerKind::Internal] {
        for flags in (0..=255u8).filter(|flags| flags & 0x10 == 0) {
            let fits = flags & 0xc0 == 0x80;
            let attributes = format!("{mandatory} {flags:02x}0e1a 000201 10 {next_hop} 00 20 fd000001");
            let message = update_message(&[], &hex(&attributes), &hex("18 0a0102"));
            let update = decode_update(&message, &context(peer_kind)).unwrap();
            assert_eq!((update.announced.len(), update.withdrawn.len()), if fits { (2, 0) } else { (0, 2) });

            let attributes = format!("{mandatory} {flags:02x}0f08 000201 20 fd000001");
            let message = update_message(&[], &hex(&attributes), &hex("18 0a0102"));
            let update = decode_update(&message, &context(peer_kind)).unwrap();
            assert_eq!((update.announced.len(), update.withdrawn.len()), if fits { (1, 1) } else { (0, 2) });
        }
    }
}

#[test]
fn multiprotocol_attributes_of_every_cut_length_reset() {
    let next_hop = "20010db8000000000000000000000001";
    let mandatory = "400101 00 400206 02010000fde9 400304 c0000201";
    let reach = hex(&format!("000201 10 {next_hop} 00 20 fd000001"));
    let unreach = hex("000201 20 fd000001");
    // Where the value is cut so that it still is one: before the prefixes.
    for (kind, value, whole) in [(14u8, reach, 21), (15, unreach, 3)] {
        for len in 0..value.len() {
            let mut attributes = hex(mandatory);
            attributes.extend([0x80, kind, u8::try_from(len).unwrap()]);
            attributes.extend(&value[..len]);
            for peer_kind in [PeerKind::External, PeerKind::Internal] {
                let decoded = decode_update(&update_message(&[], &attributes, &[]), &context(peer_kind));
                match decoded {
                    Ok(update) => assert!(len == whole && update.problems.is_empty(), "type {kind} length {len}"),
                    Err(notification) => {
                        assert_ne!(len, whole);
                        assert_eq!((notification.code, notification.subcode), (3, 9), "type {kind} length {len}");
                    }
                }
            }
        }
    }
}
