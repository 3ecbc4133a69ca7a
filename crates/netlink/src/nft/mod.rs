//! nf_tables over netlink: transactions and dumps of one table of the inet family.
//!
//! Written from `linux/netfilter/nf_tables.h`. A [`Batch`] collects what shall change; [`NftSocket::commit`] sends it
//! as one datagram, and the kernel does all of it at once or nothing. Types are numbered as `nft` numbers them, so that
//! `nft list ruleset` prints what was written here.

mod attr;
mod batch;
mod datatype;
mod expr;
mod monitor;
mod object;
mod socket;
mod uapi;

pub use batch::Batch;
pub use datatype::{Datatype, Key};
pub use expr::{CmpOp, CtKey, Expr, Found, MetaKey, PayloadBase, Reg, Verdict, ct_state};
#[cfg(feature = "async")]
pub use monitor::AsyncTableMonitor;
pub use monitor::TableMonitor;
pub use object::{BaseChain, Chain, Element, ElementData, Hook, MapData, Rule, Set, SetSignature};
pub use socket::{NftError, NftErrorKind, NftSocket, TableInfo};
