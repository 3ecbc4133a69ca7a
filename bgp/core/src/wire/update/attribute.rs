use std::net::Ipv4Addr;

use margay_net::{Asn, Family};

use super::super::as_path::AsPath;
use super::super::attributes::{
    Aggregator, AttributeType, Attributes, FLAG_EXTENDED_LENGTH, FLAG_OPTIONAL, FLAG_PARTIAL, FLAG_TRANSITIVE, Origin,
    RawAttribute, sort_unique,
};
use super::super::community::{Community, ExtendedCommunity, LargeCommunity};
use super::super::context::{DecodeContext, PeerKind};
use super::super::cursor::Cursor;
use super::super::nlri::Routes;
use super::super::notification::{Notification, UpdateError};
use super::super::problem::{AttributeProblem, ProblemReason, Treatment};
use super::as_path;
use super::multiprotocol::{self, MpReach, Unusable};
use super::opaque;

const WELL_KNOWN: u8 = FLAG_TRANSITIVE;
const OPTIONAL_TRANSITIVE: u8 = FLAG_OPTIONAL | FLAG_TRANSITIVE;
const OPTIONAL_NON_TRANSITIVE: u8 = FLAG_OPTIONAL;

/// What a bad attribute leads to, short of a reset.
pub(super) type Verdict<T> = Result<T, (Treatment, ProblemReason)>;

/// Reads the attributes one by one and collects what they say and what is wrong with them.
pub(super) struct Reader<'c> {
    pub(super) context: &'c DecodeContext,
    pub(super) attributes: Attributes,
    pub(super) as4_path: Option<AsPath>,
    pub(super) as4_aggregator: Option<Aggregator>,
    pub(super) mp_reach: Option<MpReach>,
    pub(super) mp_unreach: Option<(Family, Routes)>,
    pub(super) problems: Vec<AttributeProblem>,
    /// MP_REACH_NLRI has prefixes, of whatever family.
    pub(super) has_reachable_nlri: bool,
    /// There is anything but MP_UNREACH_NLRI.
    pub(super) has_other_attributes: bool,
    /// NEXT_HOP is that of routes in this message.
    next_hop_matters: bool,
    seen: [u64; 4],
}

/// The flags that a known attribute must have.
fn expected_flags(kind: AttributeType) -> Option<u8> {
    Some(match kind {
        AttributeType::ORIGIN
        | AttributeType::AS_PATH
        | AttributeType::NEXT_HOP
        | AttributeType::LOCAL_PREF
        | AttributeType::ATOMIC_AGGREGATE => WELL_KNOWN,
        AttributeType::MULTI_EXIT_DISC
        | AttributeType::ORIGINATOR_ID
        | AttributeType::CLUSTER_LIST
        | AttributeType::MP_REACH_NLRI
        | AttributeType::MP_UNREACH_NLRI
        | AttributeType::AIGP => OPTIONAL_NON_TRANSITIVE,
        AttributeType::AGGREGATOR
        | AttributeType::COMMUNITIES
        | AttributeType::EXTENDED_COMMUNITIES
        | AttributeType::AS4_PATH
        | AttributeType::AS4_AGGREGATOR
        | AttributeType::IPV6_EXTENDED_COMMUNITIES
        | AttributeType::LARGE_COMMUNITIES
        | AttributeType::TUNNEL_ENCAPSULATION
        | AttributeType::ONLY_TO_CUSTOMER
        | AttributeType::PREFIX_SID => OPTIONAL_TRANSITIVE,
        _ => return None,
    })
}

impl<'c> Reader<'c> {
    pub(super) fn new(context: &'c DecodeContext, next_hop_matters: bool) -> Reader<'c> {
        Reader {
            context,
            attributes: Attributes::default(),
            as4_path: None,
            as4_aggregator: None,
            mp_reach: None,
            mp_unreach: None,
            problems: Vec::new(),
            has_reachable_nlri: false,
            has_other_attributes: false,
            next_hop_matters,
            seen: [0; 4],
        }
    }

    /// Reads all attributes. The error is a reset; RFC 7606 leaves it for what makes the routes unknowable.
    pub(super) fn read(&mut self, mut cursor: Cursor<'_>) -> Result<(), Notification> {
        while !cursor.is_empty() {
            let start = cursor;
            let header = cursor.array().and_then(|[flags, kind]| {
                let extended = flags & FLAG_EXTENDED_LENGTH != 0;
                let len = if extended { cursor.u16()? } else { u16::from(cursor.u8()?) };
                Some((flags, AttributeType(kind), usize::from(len)))
            });
            let value = header.and_then(|(_, _, len)| cursor.take(len));
            let (Some((flags, kind, _)), Some(value)) = (header, value) else {
                // RFC 7606 section 4: the routes are still known, since the field after has its own place.
                let kind = AttributeType(start.rest().get(1).copied().unwrap_or(0));
                let reason = ProblemReason::Truncated { left: cursor.remaining() };
                self.has_other_attributes = true;
                self.note(kind, start.offset(), (Treatment::TreatAsWithdraw, reason));
                break;
            };
            let whole = &start.rest()[..start.remaining() - cursor.remaining()];
            self.attribute(start.offset(), flags, kind, value, whole)?;
        }
        Ok(())
    }

    /// Tells whether an attribute of the type was there, well-formed or not.
    pub(super) fn has(&self, kind: AttributeType) -> bool {
        self.seen[usize::from(kind.0 >> 6)] >> (kind.0 & 63) & 1 == 1
    }

    /// Returns the family of an MP_UNREACH_NLRI without prefixes that is the only attribute.
    pub(super) fn multiprotocol_end_of_rib(&self) -> Option<Family> {
        match &self.mp_unreach {
            Some((family, routes)) if routes.is_empty() && !self.has_other_attributes => Some(*family),
            _ => None,
        }
    }

    fn note(&mut self, attribute: AttributeType, offset: usize, (treatment, reason): (Treatment, ProblemReason)) {
        self.problems.push(AttributeProblem { attribute, offset, treatment, reason });
    }

    fn attribute(
        &mut self,
        offset: usize,
        flags: u8,
        kind: AttributeType,
        value: Cursor<'_>,
        whole: &[u8],
    ) -> Result<(), Notification> {
        let is_multiprotocol = matches!(kind, AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI);
        self.has_other_attributes |= kind != AttributeType::MP_UNREACH_NLRI;
        if self.has(kind) {
            // RFC 7606 section 3 (g).
            if is_multiprotocol {
                return Err(Notification::update(UpdateError::MalformedAttributeList));
            }
            self.note(kind, offset, (Treatment::AttributeDiscard, ProblemReason::Duplicate));
            return Ok(());
        }
        self.seen[usize::from(kind.0 >> 6)] |= 1 << (kind.0 & 63);
        let Some(expected) = expected_flags(kind) else { return self.unknown(flags, kind, value, whole) };
        if let Some(reason) = self.unwelcome(kind) {
            self.note(kind, offset, (Treatment::AttributeDiscard, reason));
            return Ok(());
        }
        // RFC 7606 section 3 (c). The prefixes are needed nevertheless: they are withdrawn.
        let flags_fit = flags & OPTIONAL_TRANSITIVE == expected;
        if !flags_fit {
            self.note(kind, offset, (wrong_flags(kind), ProblemReason::Flags(flags)));
        }
        let verdict = match kind {
            AttributeType::MP_REACH_NLRI => self.mp_reach(value, whole)?,
            AttributeType::MP_UNREACH_NLRI => self.mp_unreach(value, whole)?,
            _ if flags_fit => self.value(flags, kind, value),
            _ => Ok(()),
        };
        if let Err(problem) = verdict {
            self.note(kind, offset, problem);
        }
        Ok(())
    }

    /// Tells why this peer must not send an attribute of the type at all.
    fn unwelcome(&self, kind: AttributeType) -> Option<ProblemReason> {
        match kind {
            AttributeType::LOCAL_PREF | AttributeType::ORIGINATOR_ID | AttributeType::CLUSTER_LIST
                if self.context.peer_kind == PeerKind::External =>
            {
                Some(ProblemReason::FromExternalPeer)
            }
            AttributeType::AS4_PATH | AttributeType::AS4_AGGREGATOR if self.context.four_octet_asn => {
                Some(ProblemReason::FromFourOctetPeer)
            }
            _ => None,
        }
    }

    /// Keeps or drops an attribute whose type isn't known (RFC 4271 sections 5 and 6.3).
    fn unknown(&mut self, flags: u8, kind: AttributeType, value: Cursor<'_>, whole: &[u8]) -> Result<(), Notification> {
        if flags & FLAG_OPTIONAL == 0 {
            return Err(Notification::update(UpdateError::UnrecognizedWellKnownAttribute).with_data(whole));
        }
        if flags & FLAG_TRANSITIVE != 0 {
            self.keep(OPTIONAL_TRANSITIVE | FLAG_PARTIAL, kind, value);
        }
        Ok(())
    }

    /// Keeps an attribute as it is, in the order of types.
    fn keep(&mut self, flags: u8, kind: AttributeType, value: Cursor<'_>) {
        let unknown = &mut self.attributes.unknown;
        let place = unknown.partition_point(|other| other.kind < kind);
        unknown.insert(place, RawAttribute { kind, flags, value: value.rest().into() });
    }

    fn mp_reach(&mut self, value: Cursor<'_>, whole: &[u8]) -> Result<Verdict<()>, Notification> {
        let (has_prefixes, reach) = multiprotocol::reach(value, whole, self.context)?;
        self.has_reachable_nlri = has_prefixes;
        match reach {
            Ok(reach) => {
                let usable = if reach.routes.is_empty() { Ok(()) } else { reach.check_next_hop() };
                self.mp_reach = Some(reach);
                Ok(usable)
            }
            Err(Unusable(family)) => Ok(Err((Treatment::AttributeDiscard, ProblemReason::NotNegotiated(family)))),
        }
    }

    fn mp_unreach(&mut self, value: Cursor<'_>, whole: &[u8]) -> Result<Verdict<()>, Notification> {
        Ok(match multiprotocol::unreach(value, whole, self.context)? {
            Ok(unreach) => {
                self.mp_unreach = Some(unreach);
                Ok(())
            }
            Err(Unusable(family)) => Err((Treatment::AttributeDiscard, ProblemReason::NotNegotiated(family))),
        })
    }

    /// Reads the value of a known attribute: RFC 7606 section 7, in the order of types.
    fn value(&mut self, flags: u8, kind: AttributeType, value: Cursor<'_>) -> Verdict<()> {
        let external = self.context.peer_kind == PeerKind::External;
        let attributes = &mut self.attributes;
        match kind {
            AttributeType::ORIGIN => attributes.origin = origin(value)?,
            AttributeType::AS_PATH => {
                attributes.as_path = as_path::read(value, self.context.four_octet_asn, external).map_err(withdraw)?;
            }
            AttributeType::NEXT_HOP => {
                let next_hop = Ipv4Addr::from_bits(number(value)?);
                if self.next_hop_matters {
                    multiprotocol::check_ipv4_next_hop(next_hop)?;
                }
                attributes.next_hop = Some(next_hop.into());
            }
            AttributeType::MULTI_EXIT_DISC => attributes.med = Some(number(value)?),
            AttributeType::LOCAL_PREF => attributes.local_pref = Some(number(value)?),
            AttributeType::ATOMIC_AGGREGATE => {
                if !value.is_empty() {
                    return Err(discard(ProblemReason::Length(value.remaining())));
                }
                attributes.atomic_aggregate = true;
            }
            AttributeType::AGGREGATOR => {
                attributes.aggregator = Some(aggregator(value, self.context.four_octet_asn).map_err(discard)?);
            }
            AttributeType::COMMUNITIES => {
                attributes.communities = list(value, |octets| Community(u32::from_be_bytes(octets)))?;
                sort_unique(&mut attributes.communities);
            }
            AttributeType::ORIGINATOR_ID => attributes.originator_id = Some(Ipv4Addr::from_bits(number(value)?)),
            AttributeType::CLUSTER_LIST => attributes.cluster_list = list::<4, _>(value, Ipv4Addr::from)?,
            AttributeType::EXTENDED_COMMUNITIES => {
                attributes.extended_communities = list(value, |octets| ExtendedCommunity(u64::from_be_bytes(octets)))?;
                sort_unique(&mut attributes.extended_communities);
            }
            AttributeType::AS4_PATH => self.as4_path = Some(as_path::read_as4(value).map_err(discard)?),
            AttributeType::AS4_AGGREGATOR => {
                self.as4_aggregator = Some(aggregator(value, true).map_err(discard)?);
            }
            AttributeType::LARGE_COMMUNITIES => {
                attributes.large_communities = list(value, large_community)?;
                sort_unique(&mut attributes.large_communities);
            }
            // These are checked, so that a malformed one isn't passed on, and otherwise left as they are.
            AttributeType::IPV6_EXTENDED_COMMUNITIES => {
                list_length::<20>(value)?;
                self.keep(flags & !FLAG_EXTENDED_LENGTH, kind, value);
            }
            AttributeType::ONLY_TO_CUSTOMER => {
                number(value)?;
                self.keep(flags & !FLAG_EXTENDED_LENGTH, kind, value);
            }
            AttributeType::TUNNEL_ENCAPSULATION => {
                opaque::tunnel_encapsulation(value).map_err(withdraw)?;
                self.keep(OPTIONAL_TRANSITIVE | FLAG_PARTIAL, kind, value);
            }
            AttributeType::PREFIX_SID => {
                opaque::prefix_sid(value).map_err(discard)?;
                self.keep(OPTIONAL_TRANSITIVE | FLAG_PARTIAL, kind, value);
            }
            // AIGP is not taken part in, and so neither used nor passed on (RFC 7311 section 3.3), whatever its form.
            _ => {}
        }
        Ok(())
    }
}

/// What flags that contradict the type lead to: RFC 7606 section 3 (c), but for attributes whose own standard has every
/// malformed one ignored (RFC 7311 section 3.4, RFC 8669 section 6).
fn wrong_flags(kind: AttributeType) -> Treatment {
    match kind {
        AttributeType::AIGP | AttributeType::PREFIX_SID => Treatment::AttributeDiscard,
        _ => Treatment::TreatAsWithdraw,
    }
}

fn withdraw(reason: ProblemReason) -> (Treatment, ProblemReason) {
    (Treatment::TreatAsWithdraw, reason)
}

fn discard(reason: ProblemReason) -> (Treatment, ProblemReason) {
    (Treatment::AttributeDiscard, reason)
}

fn origin(value: Cursor<'_>) -> Verdict<Origin> {
    match *value.rest() {
        [0] => Ok(Origin::Igp),
        [1] => Ok(Origin::Egp),
        [2] => Ok(Origin::Incomplete),
        [other] => Err(withdraw(ProblemReason::Value { value: other.to_string() })),
        _ => Err(withdraw(ProblemReason::Length(value.remaining()))),
    }
}

/// Reads a value of exactly four octets.
fn number(mut value: Cursor<'_>) -> Verdict<u32> {
    let length = value.remaining();
    match value.u32() {
        Some(number) if value.is_empty() => Ok(number),
        _ => Err(withdraw(ProblemReason::Length(length))),
    }
}

/// Reads an AGGREGATOR with an AS number of two octets or of four.
fn aggregator(mut value: Cursor<'_>, four_octet: bool) -> Result<Aggregator, ProblemReason> {
    let length = value.remaining();
    let asn = if four_octet { value.u32() } else { value.u16().map(u32::from) };
    match (asn, value.u32()) {
        (Some(0), Some(_)) if value.is_empty() => Err(ProblemReason::AsZero),
        (Some(asn), Some(id)) if value.is_empty() => {
            Ok(Aggregator { asn: Asn(asn), router_id: Ipv4Addr::from_bits(id) })
        }
        _ => Err(ProblemReason::Length(length)),
    }
}

/// Reads values of `N` octets each, of which there must be one at least.
fn list<const N: usize, T>(mut value: Cursor<'_>, item: impl Fn([u8; N]) -> T) -> Verdict<Vec<T>> {
    let mut items = Vec::with_capacity(list_length::<N>(value)?);
    while let Some(octets) = value.array() {
        items.push(item(octets));
    }
    Ok(items)
}

fn list_length<const N: usize>(value: Cursor<'_>) -> Verdict<usize> {
    let length = value.remaining();
    if length == 0 || !length.is_multiple_of(N) {
        return Err(withdraw(ProblemReason::Length(length)));
    }
    Ok(length / N)
}

fn large_community(octets: [u8; 12]) -> LargeCommunity {
    let number = |at: usize| u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    LargeCommunity { global_administrator: number(0), local_data_1: number(4), local_data_2: number(8) }
}
