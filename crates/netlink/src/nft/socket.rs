use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::attr::{PutAttr, ReadAttr, find_comment};
use super::batch::{Batch, RULE_COMMENT, TABLE_COMMENT};
use super::expr::{Expr, Verdict};
use super::object::{BaseChain, Chain, Element, ElementData, Hook, Rule, SetSignature};
use super::uapi::*;
use crate::message::{Attrs, MessageBuilder, Messages};
use crate::{KernelError, NetlinkError, NetlinkSocket, Protocol};

/// Bytes that one transaction may have. The kernel copies it once; nothing is reserved.
const SEND_BUFFER: i32 = 256 << 20;
/// Room for the error of each message of a large batch.
const RECEIVE_BUFFER: i32 = 32 << 20;

/// Why a request to nf_tables failed.
#[derive(Debug, thiserror::Error)]
#[error("nf_tables: {operation}: {kind}")]
pub struct NftError {
    /// What was asked, as in "add element 3 of 40 to set allow_one".
    pub operation: String,
    pub kind: NftErrorKind,
}

/// The cause of an [`NftError`].
#[derive(Debug, thiserror::Error)]
pub enum NftErrorKind {
    /// The kernel refused it; the transaction had no effect.
    #[error("{0}")]
    Refused(KernelError),
    /// Another writer was faster; read again and retry.
    #[error("the rule set was changed by another writer in between")]
    GenerationChanged,
    /// The kernel's answers were lost: whether it took effect is unknown, so the state must be read again.
    #[error("the kernel's answer was lost")]
    AnswerLost,
    /// The socket failed.
    #[error(transparent)]
    Netlink(NetlinkError),
}

impl NftError {
    fn new(operation: &str, error: NetlinkError) -> NftError {
        let kind = match error {
            NetlinkError::Kernel { error, .. } => NftErrorKind::Refused(error),
            NetlinkError::Interrupted { .. } => NftErrorKind::GenerationChanged,
            NetlinkError::Overrun => NftErrorKind::AnswerLost,
            other => NftErrorKind::Netlink(other),
        };
        NftError { operation: operation.into(), kind }
    }

    /// Tells whether the kernel answered with this errno.
    pub fn is_errno(&self, wanted: i32) -> bool {
        matches!(&self.kind, NftErrorKind::Refused(error) if error.errno == wanted)
    }
}

/// A netlink socket to nf_tables of the network namespace that the calling thread was in when it was opened.
///
/// Calls block for as long as the kernel works on them. What a dump returns is of one generation.
#[derive(Debug)]
pub struct NftSocket {
    socket: NetlinkSocket,
}

impl NftSocket {
    pub fn open() -> Result<NftSocket, NftError> {
        open_socket().map(|socket| NftSocket { socket }).map_err(|error| NftError::new("open", error))
    }

    /// The port that events carry which this socket's transactions cause.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Sends the transaction; it has taken effect when this returns. An empty batch is not sent.
    pub fn commit(&mut self, mut batch: Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.finish();
        let operation = batch.describe(0, None);
        let fail = |error| NftError::new(&operation, error);
        self.forget_unread().map_err(fail)?;
        self.send(&operation, &batch.bytes).map_err(fail)?;
        let last = batch.operations.len() as u32;
        let mut acknowledged = false;
        let mut first_error: Option<NftError> = None;
        // Everything that the kernel has to say is queued when `send` returns.
        while let Some(datagram) = self.socket.try_receive(&operation).map_err(fail)? {
            for message in Messages(datagram) {
                match message.outcome() {
                    None => {}
                    Some(Ok(())) => acknowledged |= message.sequence == last,
                    Some(Err(_)) if first_error.is_some() => {}
                    Some(Err(mut error)) => {
                        let operation = batch.describe(message.sequence, error.offset.take());
                        let kind = match error.errno {
                            libc::ERESTART => NftErrorKind::GenerationChanged,
                            _ => NftErrorKind::Refused(error),
                        };
                        first_error = Some(NftError { operation, kind });
                    }
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(NftError { operation, kind: NftErrorKind::AnswerLost }),
        }
    }

    /// The generation of the namespace's rule set: it grows with every transaction of any writer.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let operation = "read the generation";
        let found = self.get(operation, NFT_MSG_GETGEN, |_| {}, |attrs| attrs.be32(NFTA_GEN_ID))?;
        let missing = NetlinkError::Malformed { operation: operation.into(), what: "there is no generation in it" };
        found.into_iter().next().ok_or_else(|| NftError::new(operation, missing))
    }

    /// Reads the table's comment and flags. `None`: there is no such table.
    pub fn table(&mut self, table: &str) -> Result<Option<TableInfo>, NftError> {
        let fill = |out: &mut Vec<u8>| out.put_str(NFTA_TABLE_NAME, table);
        let result = self.get(&format!("read table {table}"), NFT_MSG_GETTABLE, fill, |attrs| {
            let comment = attrs.find(NFTA_TABLE_USERDATA).and_then(|data| find_comment(data, TABLE_COMMENT));
            Some(TableInfo { comment, flags: attrs.be32(NFTA_TABLE_FLAGS).unwrap_or(0) })
        });
        match result {
            Err(error) if error.is_errno(libc::ENOENT) => Ok(None),
            other => other.map(|found| found.into_iter().next()),
        }
    }

    /// Lists the table's chains.
    pub fn chains(&mut self, table: &str) -> Result<Vec<Chain>, NftError> {
        let fill = |out: &mut Vec<u8>| out.put_str(NFTA_CHAIN_TABLE, table);
        let decode = |attrs: Attrs<'_>| (attrs.string(NFTA_CHAIN_TABLE)? == table).then(|| decode_chain(attrs))?;
        self.dump(&format!("list the chains of table {table}"), NFT_MSG_GETCHAIN, fill, decode)
    }

    /// Lists the table's rules as (chain, handle, rule), in order within a chain.
    pub fn rules(&mut self, table: &str) -> Result<Vec<(String, u64, Rule)>, NftError> {
        let fill = |out: &mut Vec<u8>| out.put_str(NFTA_RULE_TABLE, table);
        self.dump(&format!("list the rules of table {table}"), NFT_MSG_GETRULE, fill, |attrs| {
            if attrs.string(NFTA_RULE_TABLE)? != table {
                return None;
            }
            let exprs = Expr::decode_list(attrs.nested(NFTA_RULE_EXPRESSIONS).unwrap_or(Attrs(&[])));
            let comment = attrs.find(NFTA_RULE_USERDATA).and_then(|data| find_comment(data, RULE_COMMENT));
            Some((attrs.string(NFTA_RULE_CHAIN)?, attrs.be64(NFTA_RULE_HANDLE)?, Rule { exprs, comment }))
        })
    }

    /// Lists the table's sets and maps by name and shape.
    pub fn sets(&mut self, table: &str) -> Result<Vec<(String, SetSignature)>, NftError> {
        let fill = |out: &mut Vec<u8>| out.put_str(NFTA_SET_TABLE, table);
        self.dump(&format!("list the sets of table {table}"), NFT_MSG_GETSET, fill, |attrs| {
            if attrs.string(NFTA_SET_TABLE)? != table {
                return None;
            }
            let number = |kind| attrs.be32(kind).unwrap_or(0);
            let data_type = number(NFTA_SET_DATA_TYPE);
            let signature = SetSignature {
                flags: number(NFTA_SET_FLAGS),
                key_type: number(NFTA_SET_KEY_TYPE),
                key_len: number(NFTA_SET_KEY_LEN),
                data_type,
                data_len: if data_type == NFT_DATA_VERDICT { 0 } else { number(NFTA_SET_DATA_LEN) },
            };
            Some((attrs.string(NFTA_SET_NAME)?, signature))
        })
    }

    /// Lists the elements of a set or map, in no order.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<Element>, NftError> {
        let fill = |out: &mut Vec<u8>| {
            out.put_str(NFTA_SET_ELEM_LIST_TABLE, table);
            out.put_str(NFTA_SET_ELEM_LIST_SET, set);
        };
        let lists = self.dump(&format!("list the elements of set {set}"), NFT_MSG_GETSETELEM, fill, |attrs| {
            let list = attrs.nested(NFTA_SET_ELEM_LIST_ELEMENTS)?;
            Some(list.into_iter().filter_map(|(_, value)| decode_element(Attrs(value))).collect::<Vec<_>>())
        })?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// Lists what there is, of one generation.
    fn dump<T>(
        &mut self,
        operation: &str,
        message: u16,
        fill: impl Fn(&mut Vec<u8>),
        mut decode: impl FnMut(Attrs<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let mut request = request(message, NLM_F_DUMP, fill);
        self.socket
            .dump(operation, &mut request, |message| decode(message.attrs(NFGENMSG_LEN)))
            .map_err(|error| NftError::new(operation, error))
    }

    fn get<T>(
        &mut self,
        operation: &str,
        message: u16,
        fill: impl Fn(&mut Vec<u8>),
        mut decode: impl FnMut(Attrs<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NftError> {
        let mut request = request(message, 0, fill);
        self.socket
            .get(operation, &mut request, |message| decode(message.attrs(NFGENMSG_LEN)))
            .map_err(|error| NftError::new(operation, error))
    }

    /// Forgets what an earlier call that failed left unread.
    fn forget_unread(&mut self) -> Result<(), NetlinkError> {
        loop {
            match self.socket.try_receive("receive") {
                Ok(None) => return Ok(()),
                Ok(Some(_)) | Err(NetlinkError::Overrun) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, operation: &str, bytes: &[u8]) -> Result<(), NetlinkError> {
        // SAFETY: pointer and length are those of a live slice.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(NetlinkError::last_os(operation)) } else { Ok(()) }
    }
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    pub comment: Option<String>,
    /// `NFT_TABLE_F_*`: 1 dormant, 2 owned by a process.
    pub flags: u32,
}

/// The length of `struct nfgenmsg`, which comes before the attributes.
const NFGENMSG_LEN: usize = 4;

fn request(message: u16, flags: u16, fill: impl Fn(&mut Vec<u8>)) -> MessageBuilder {
    let mut body = vec![NFPROTO_INET, 0, 0, 0];
    fill(&mut body);
    let mut builder = MessageBuilder::new();
    builder.begin((NFNL_SUBSYS_NFTABLES << 8) | message, flags, &body);
    builder
}

fn open_socket() -> Result<NetlinkSocket, NetlinkError> {
    let socket = NetlinkSocket::open(Protocol::Netfilter)?;
    socket.set_receive_buffer(RECEIVE_BUFFER)?;
    // Without CAP_NET_ADMIN in the first user namespace transactions stay limited to the size that the socket has.
    match crate::socket::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
            Err(NetlinkError::Io { operation: "set the send buffer".into(), source: error })
        }
        _ => Ok(socket),
    }
}

fn decode_chain(attrs: Attrs<'_>) -> Option<Chain> {
    let base = attrs.nested(NFTA_CHAIN_HOOK).and_then(|hook| {
        Some(BaseChain {
            kind: attrs.string(NFTA_CHAIN_TYPE)?,
            hook: Hook::decode(hook.be32(NFTA_HOOK_HOOKNUM)?)?,
            priority: hook.be32(NFTA_HOOK_PRIORITY)? as i32,
            accept: attrs.be32(NFTA_CHAIN_POLICY)? == 1,
        })
    });
    Some(Chain { name: attrs.string(NFTA_CHAIN_NAME)?, base })
}

fn decode_element(attrs: Attrs<'_>) -> Option<Element> {
    let key = |kind| attrs.nested(kind)?.find(NFTA_DATA_VALUE).map(<[u8]>::to_vec);
    let data = attrs.nested(NFTA_SET_ELEM_DATA).and_then(|data| match data.find(NFTA_DATA_VALUE) {
        Some(value) => Some(ElementData::Value(value.to_vec())),
        None => Verdict::decode(data).map(ElementData::Verdict),
    });
    Some(Element {
        key: key(NFTA_SET_ELEM_KEY)?,
        interval_end: attrs.be32(NFTA_SET_ELEM_FLAGS).unwrap_or(0) & NFT_SET_ELEM_INTERVAL_END != 0,
        key_end: key(NFTA_SET_ELEM_KEY_END),
        data,
    })
}
