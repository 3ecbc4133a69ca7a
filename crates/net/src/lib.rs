//! The vocabulary that every part of Margay shares: addresses, AS numbers, time as a value, prefix maps, and the
//! routes that the speaker and felix hand to each other. Pure data, no IO.

mod asn;
mod cidr;
mod glob;
mod mac;
mod prefix_map;
mod route;
mod time;

pub use asn::{Asn, AsnError};
pub use cidr::{Cidr, CidrError, Family};
pub use glob::glob_matches;
pub use mac::{Mac, MacError};
pub use prefix_map::PrefixMap;
pub use route::{
    BestRoute, FibBatch, FibChange, FromFelix, LinkState, LocalRoute, LocalRouteChange, LocalRouteSource, NextHop,
    ResolvedNextHop,
};
pub use time::{Instant, Now};
