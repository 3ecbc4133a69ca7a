use std::net::Ipv4Addr;

use margay_net::{Asn, Cidr, Family};
use smallvec::SmallVec;

use super::attributes::Attributes;
use super::capability::Capability;
use super::context::AfiSafi;
use super::notification::Notification;
use super::problem::AttributeProblem;

/// A message of BGP-4, decoded.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every message is an UPDATE, which a box would make an allocation dearer"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Open(Open),
    Update(Update),
    Notification(Notification),
    Keepalive,
    RouteRefresh(RouteRefresh),
}

/// OPEN (RFC 4271 section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The sender's AS number: that of the four-octet capability where there is one.
    pub asn: Asn,
    /// The field My Autonomous System: 23456 where `asn` doesn't fit.
    pub asn_on_wire: u16,
    /// In seconds: 0 or at least 3.
    pub hold_time: u16,
    pub router_id: Ipv4Addr,
    /// In the order sent.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Makes an OPEN. The four-octet capability is the caller's to add.
    pub fn new(asn: Asn, hold_time: u16, router_id: Ipv4Addr, capabilities: Vec<Capability>) -> Open {
        let asn_on_wire = u16::try_from(asn.0).unwrap_or(Asn::TRANS.0 as u16);
        Open { asn, asn_on_wire, hold_time, router_id, capabilities }
    }
}

/// UPDATE (RFC 4271 section 4.3), with attribute errors treated as RFC 7606 says.
///
/// `withdrawn` applies before `announced`: a prefix that is in both is announced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// At most three: of the withdrawn routes field, of MP_UNREACH_NLRI, and what was announced in a message whose
    /// attributes are malformed.
    pub withdrawn: SmallVec<[Withdrawal; 1]>,
    /// At most two: of the field at the end of the message, and of MP_REACH_NLRI.
    pub announced: SmallVec<[Announcement; 1]>,
    pub end_of_rib: Option<Family>,
    /// What was wrong and how it was treated; empty for nearly every message.
    pub problems: Vec<AttributeProblem>,
}

/// Routes that are gone. Prefixes are in the order sent, never empty, all of `family`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    pub family: Family,
    pub prefixes: Vec<Cidr>,
    /// Which path of each prefix it is, where the session has ADD-PATH for the family (RFC 7911); empty where not.
    pub path_ids: Vec<u32>,
}

/// Routes that are there. Prefixes are in the order sent, never empty, all of `family`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    pub family: Family,
    pub prefixes: Vec<Cidr>,
    /// As in [`Withdrawal`].
    pub path_ids: Vec<u32>,
    /// With the next hop of these prefixes.
    pub attributes: Attributes,
}

/// ROUTE-REFRESH (RFC 2918).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    pub family: AfiSafi,
    pub subtype: RefreshSubtype,
}

/// What a ROUTE-REFRESH means (RFC 7313).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshSubtype {
    /// A request for all routes.
    Request,
    /// BoRR: the routes that were asked for begin.
    Beginning,
    /// EoRR: they are all sent.
    End,
    /// To be ignored.
    Unknown(u8),
}
