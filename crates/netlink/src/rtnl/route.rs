use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_net::{Cidr, Family};

use super::{CREATE, DUMP, EXCLUSIVE, PutAddr, REPLACE, Rtnl, address, message};
use crate::message::{Attrs, Message, MessageBuilder};
use crate::{KernelError, NetlinkError};

/// The size of `struct rtmsg`.
const FIXED: usize = 12;
/// The size of `struct rtnexthop`.
const HOP_FIXED: usize = 8;
const RTNH_F_ONLINK: u8 = 4;
/// Requests in one datagram: more gain nothing, and this many refusals fit a small buffer.
const BATCH: usize = 100;

/// What the kernel does with a packet for a route's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Sends it to a next hop.
    Unicast,
    /// Drops it silently.
    Blackhole,
    /// Another type (`RTN_*`).
    Other(u8),
}

/// One next hop: a gateway, an interface, or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteHop {
    /// Without one the prefix is on the link. An IPv6 gateway for an IPv4 prefix is allowed (RFC 8950's use).
    pub gateway: Option<IpAddr>,
    pub interface: u32,
    /// The gateway is reached through the interface though no connected prefix says so.
    pub onlink: bool,
    /// The share of flows, 1 to 256.
    pub weight: u16,
}

impl RouteHop {
    /// A gateway behind an interface.
    pub fn via(gateway: IpAddr, interface: u32) -> RouteHop {
        RouteHop { gateway: Some(gateway), interface, onlink: false, weight: 1 }
    }

    /// The link itself.
    pub fn link(interface: u32) -> RouteHop {
        RouteHop { gateway: None, interface, onlink: false, weight: 1 }
    }
}

/// A route of either family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub prefix: Cidr,
    pub table: u32,
    /// Who made it (`RTPROT_*`, or a number of one's own).
    pub protocol: u8,
    /// `RT_SCOPE_*`; always 0 for IPv6.
    pub scope: u8,
    pub kind: RouteKind,
    /// Lower wins between routes of one prefix.
    pub priority: u32,
    /// The address that the host itself sends from.
    pub prefsrc: Option<IpAddr>,
    /// Several are used at the same time. Empty for kinds other than unicast.
    pub next_hops: Vec<RouteHop>,
}

impl Route {
    /// A unicast route of the main table through one or several next hops.
    pub fn unicast(prefix: Cidr, protocol: u8, next_hops: Vec<RouteHop>) -> Route {
        let on_link = prefix.family() == Family::V4 && next_hops.iter().all(|hop| hop.gateway.is_none());
        Route {
            prefix,
            table: libc::RT_TABLE_MAIN.into(),
            protocol,
            scope: if on_link { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE },
            kind: RouteKind::Unicast,
            priority: 0,
            prefsrc: None,
            next_hops,
        }
    }

    /// A route of the main table that drops packets silently.
    pub fn blackhole(prefix: Cidr, protocol: u8) -> Route {
        Route {
            kind: RouteKind::Blackhole,
            scope: libc::RT_SCOPE_UNIVERSE,
            ..Route::unicast(prefix, protocol, Vec::new())
        }
    }

    /// `None` for what isn't a plain route: one chosen by the type of service, or a cached one.
    pub(super) fn parse(message: &Message<'_>) -> Option<Route> {
        let [family, prefix_len, _, tos, table, protocol, scope, kind, flags @ ..] = message.fixed::<FIXED>()?;
        let flags = u32::from_ne_bytes(flags);
        if tos != 0 || flags & libc::RTM_F_CLONED != 0 {
            return None;
        }
        let attrs = message.attrs(FIXED);
        let any = match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let addr = attrs.find(libc::RTA_DST).map_or(Some(any), address)?;
        let kind = match kind {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_BLACKHOLE => RouteKind::Blackhole,
            other => RouteKind::Other(other),
        };
        let mut next_hops = match (kind, attrs.find(libc::RTA_MULTIPATH)) {
            (RouteKind::Unicast, Some(hops)) => parse_hops(hops),
            (RouteKind::Unicast, None) => vec![RouteHop {
                gateway: gateway(attrs),
                interface: attrs.u32(libc::RTA_OIF).unwrap_or(0),
                onlink: flags & u32::from(RTNH_F_ONLINK) != 0,
                weight: 1,
            }],
            _ => Vec::new(),
        };
        next_hops.sort();
        Some(Route {
            prefix: Cidr::new(addr, prefix_len).ok()?,
            table: attrs.u32(libc::RTA_TABLE).unwrap_or(table.into()),
            protocol,
            scope,
            kind,
            priority: attrs.u32(libc::RTA_PRIORITY).unwrap_or(0),
            prefsrc: attrs.find(libc::RTA_PREFSRC).and_then(address),
            next_hops,
        })
    }

    fn encode(&self, messages: &mut MessageBuilder, flags: u16) {
        let kind = match self.kind {
            RouteKind::Unicast => libc::RTN_UNICAST,
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Other(kind) => kind,
        };
        let single = match self.next_hops.as_slice() {
            [hop] => Some(hop),
            _ => None,
        };
        let onlink = if single.is_some_and(|hop| hop.onlink) { RTNH_F_ONLINK } else { 0 };
        messages.begin(libc::RTM_NEWROUTE, flags, &self.fixed(self.scope, kind, onlink));
        self.encode_key(messages);
        if let Some(prefsrc) = self.prefsrc {
            messages.attr_addr(libc::RTA_PREFSRC, prefsrc);
        }
        if let Some(hop) = single {
            self.encode_gateway(hop, messages);
            messages.attr_u32(libc::RTA_OIF, hop.interface);
        } else if !self.next_hops.is_empty() {
            messages.hold(libc::RTA_MULTIPATH, |m| {
                for hop in &self.next_hops {
                    let flags = if hop.onlink { RTNH_F_ONLINK } else { 0 };
                    let [i0, i1, i2, i3] = hop.interface.to_ne_bytes();
                    let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
                    m.sized(&[0, 0, flags, weight, i0, i1, i2, i3], |m| self.encode_gateway(hop, m));
                }
            });
        }
    }

    fn encode_deletion(&self, messages: &mut MessageBuilder) {
        messages.begin(libc::RTM_DELROUTE, 0, &self.fixed(libc::RT_SCOPE_NOWHERE, 0, 0));
        self.encode_key(messages);
    }

    fn encode_key(&self, messages: &mut MessageBuilder) {
        messages.attr_addr(libc::RTA_DST, self.prefix.addr());
        messages.attr_u32(libc::RTA_TABLE, self.table);
        messages.attr_u32(libc::RTA_PRIORITY, self.priority);
    }

    fn encode_gateway(&self, hop: &RouteHop, messages: &mut MessageBuilder) {
        match hop.gateway {
            None => {}
            Some(gateway) if Family::of(gateway) == self.prefix.family() => {
                messages.attr_addr(libc::RTA_GATEWAY, gateway);
            }
            Some(gateway) => {
                let mut via = (super::family(gateway) as u16).to_ne_bytes().to_vec();
                match gateway {
                    IpAddr::V4(addr) => via.extend(addr.octets()),
                    IpAddr::V6(addr) => via.extend(addr.octets()),
                }
                messages.attr(libc::RTA_VIA, &via);
            }
        }
    }

    fn fixed(&self, scope: u8, kind: u8, flags: u8) -> [u8; FIXED] {
        let table = u8::try_from(self.table).unwrap_or(libc::RT_TABLE_UNSPEC);
        let family = super::family(self.prefix.addr());
        let [f0, f1, f2, f3] = u32::from(flags).to_ne_bytes();
        [family, self.prefix.len(), 0, 0, table, self.protocol, scope, kind, f0, f1, f2, f3]
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => write!(f, "{}", self.prefix)?,
            RouteKind::Blackhole => write!(f, "blackhole {}", self.prefix)?,
            RouteKind::Other(kind) => write!(f, "type {kind} {}", self.prefix)?,
        }
        for hop in &self.next_hops {
            if let Some(gateway) = hop.gateway {
                write!(f, " via {gateway}")?;
            }
            write!(f, " dev {}", hop.interface)?;
        }
        write!(f, " proto {} metric {}", self.protocol, self.priority)
    }
}

/// One step of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// Adds a route; refused (`EEXIST`) if the prefix has one of this priority in the table, of any protocol.
    Add(Route),
    /// Puts a route in place of the one of the same prefix, table and priority, or adds it if there is none.
    Replace(Route),
    /// Deletes the route of this prefix, table, priority and protocol; refused (`ESRCH`) if there is none.
    Delete(Route),
}

impl RouteChange {
    /// The route that it is about.
    pub fn route(&self) -> &Route {
        match self {
            RouteChange::Add(route) | RouteChange::Replace(route) | RouteChange::Delete(route) => route,
        }
    }
}

impl fmt::Display for RouteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            RouteChange::Add(_) => "add",
            RouteChange::Replace(_) => "replace",
            RouteChange::Delete(_) => "delete",
        };
        write!(f, "{verb} route {}", self.route())
    }
}

/// Which routes to list; the default lists all of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteFilter {
    pub protocol: Option<u8>,
    /// Only routes with a next hop through this interface.
    pub interface: Option<u32>,
}

impl Rtnl {
    /// Makes the changes in order, many to a datagram, and returns the refused ones by their index; the others are done.
    pub fn change_routes(&mut self, changes: &[RouteChange]) -> Result<Vec<(usize, KernelError)>, NetlinkError> {
        let mut refused = Vec::new();
        let mut messages = MessageBuilder::new();
        for (number, batch) in changes.chunks(BATCH).enumerate() {
            messages.clear();
            for change in batch {
                match change {
                    RouteChange::Add(route) => route.encode(&mut messages, CREATE | EXCLUSIVE),
                    RouteChange::Replace(route) => route.encode(&mut messages, CREATE | REPLACE),
                    RouteChange::Delete(route) => route.encode_deletion(&mut messages),
                }
            }
            let errors = self.socket.transact(&mut messages)?;
            refused.extend(errors.into_iter().map(|(index, error)| (number * BATCH + index, error)));
        }
        Ok(refused)
    }

    /// Makes one change.
    pub fn change_route(&mut self, change: RouteChange) -> Result<(), NetlinkError> {
        match self.change_routes(std::slice::from_ref(&change))?.into_iter().next() {
            None => Ok(()),
            Some((_, error)) => Err(NetlinkError::Kernel { operation: change.to_string(), error }),
        }
    }

    /// Lists routes of all tables. The kernel filters; an interface that isn't there has no routes.
    pub fn routes(&mut self, filter: &RouteFilter) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            let mut fixed = [0; FIXED];
            fixed[0] = family;
            fixed[5] = filter.protocol.unwrap_or(0);
            let mut message = message(libc::RTM_GETROUTE, DUMP, &fixed);
            if let Some(interface) = filter.interface {
                message.attr_u32(libc::RTA_OIF, interface);
            }
            let found = self.socket.dump("list the routes", &mut message, |message| {
                (message.kind == libc::RTM_NEWROUTE).then(|| Route::parse(&message))?
            });
            match found {
                Ok(found) => routes.extend(found),
                Err(error) if filter.interface.is_some() && error.errno() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error.during("list the routes")),
            }
        }
        // The kernel's filter is best effort for kinds that it keeps in other lists.
        routes.retain(|route| filter.protocol.is_none_or(|protocol| route.protocol == protocol));
        Ok(routes)
    }
}

fn gateway(attrs: Attrs<'_>) -> Option<IpAddr> {
    let via = || attrs.find(libc::RTA_VIA).and_then(|via| address(via.get(2..)?));
    attrs.find(libc::RTA_GATEWAY).and_then(address).or_else(via)
}

/// Reads an array of `struct rtnexthop`.
fn parse_hops(mut bytes: &[u8]) -> Vec<RouteHop> {
    let mut hops = Vec::new();
    while let Some(&[l0, l1, flags, weight, i0, i1, i2, i3]) = bytes.first_chunk::<HOP_FIXED>() {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let Some(attrs) = bytes.get(HOP_FIXED..len) else { break };
        hops.push(RouteHop {
            gateway: gateway(Attrs(attrs)),
            interface: u32::from_ne_bytes([i0, i1, i2, i3]),
            onlink: flags & RTNH_F_ONLINK != 0,
            weight: u16::from(weight) + 1,
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}
