//! Netlink without a library: routes, links, neighbours and nf_tables in batches; namespaces; socket options.
//!
//! Synchronous; with the feature `async` the [`rtnl::Monitor`] can be awaited. The only package with `unsafe` code.

pub mod datagram;
mod error;
pub mod message;
pub mod netns;
pub mod nft;
pub mod rtnl;
pub mod schedule;
pub mod socket;
pub mod sysctl;
mod transport;

pub use error::{KernelError, NetlinkError};
pub use transport::{NetlinkSocket, Protocol};
