use super::attr::{PutAttr, ReadAttr};
use super::uapi::*;
use crate::message::Attrs;

/// A 32-bit register, 0 to 15. Longer values fill the following ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u8);

impl Reg {
    fn encode(self) -> u32 {
        8 + u32::from(self.0)
    }

    /// The kernel reports registers on a 16-byte boundary by their old 128-bit numbers, 1 to 4.
    fn decode(value: u32) -> Option<Reg> {
        match value {
            1..=4 => Some(Reg(((value - 1) * 4) as u8)),
            8..=23 => Some(Reg((value - 8) as u8)),
            _ => None,
        }
    }
}

/// What the `meta` expression loads or sets (`enum nft_meta_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MetaKey {
    Priority = 2,
    Mark = 3,
    Iif = 4,
    Oif = 5,
    Iifname = 6,
    Oifname = 7,
    Nfproto = 15,
    L4proto = 16,
}

impl MetaKey {
    fn decode(value: u32) -> Option<MetaKey> {
        use MetaKey::*;
        [Priority, Mark, Iif, Oif, Iifname, Oifname, Nfproto, L4proto].into_iter().find(|k| *k as u32 == value)
    }
}

/// What the `ct` expression loads (`enum nft_ct_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CtKey {
    /// A mask of [`ct_state`] bits, host order.
    State = 0,
    Mark = 3,
}

/// Bits of the connection's state as `ct state` loads them (`linux/netfilter/nf_conntrack_common.h`).
pub mod ct_state {
    pub const INVALID: u32 = 1;
    pub const ESTABLISHED: u32 = 2;
    pub const RELATED: u32 = 4;
    pub const NEW: u32 = 8;
    pub const UNTRACKED: u32 = 64;
}

/// Where a payload expression counts its offset from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadBase {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// A comparison (`enum nft_cmp_ops`); less and greater compare bytes in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CmpOp {
    Eq = 0,
    Neq = 1,
    Lt = 2,
    Lte = 3,
    Gt = 4,
    Gte = 5,
}

/// What becomes of the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Drop,
    Accept,
    /// Evaluates that chain, then goes on behind the rule.
    Jump(String),
    /// Evaluates that chain, then what the caller of this one does.
    Goto(String),
    /// Ends the chain and goes on behind the jump; in a base chain applies its policy.
    Return,
}

impl Verdict {
    fn code(&self) -> i32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Goto(_) => -4,
            Verdict::Return => -5,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.nest(NFTA_DATA_VERDICT, |out| {
            out.put_u32(NFTA_VERDICT_CODE, self.code() as u32);
            if let Verdict::Jump(chain) | Verdict::Goto(chain) = self {
                out.put_str(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }

    pub(crate) fn decode(data: Attrs<'_>) -> Option<Verdict> {
        let verdict = data.nested(NFTA_DATA_VERDICT)?;
        Some(match verdict.be32(NFTA_VERDICT_CODE)? as i32 {
            0 => Verdict::Drop,
            1 => Verdict::Accept,
            -3 => Verdict::Jump(verdict.string(NFTA_VERDICT_CHAIN)?),
            -4 => Verdict::Goto(verdict.string(NFTA_VERDICT_CHAIN)?),
            -5 => Verdict::Return,
            _ => return None,
        })
    }
}

/// What a lookup does with the element that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The rule goes on.
    Continue,
    /// The rule ends; it goes on when nothing was found.
    Stop,
    /// The element's data is put into a register, and the rule goes on.
    Data(Reg),
    /// The element's verdict is applied.
    Verdict,
}

/// One step of a rule. A step that doesn't match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Loads a property of the packet.
    Meta { key: MetaKey, dreg: Reg },
    /// Sets a property of the packet.
    MetaSet { key: MetaKey, sreg: Reg },
    /// Loads a property of the connection.
    Ct { key: CtKey, dreg: Reg },
    /// Loads bytes of the packet; one that is too short doesn't match.
    Payload { base: PayloadBase, offset: u32, len: u32, dreg: Reg },
    /// Compares a register with bytes.
    Cmp { sreg: Reg, op: CmpOp, data: Vec<u8> },
    /// Tells whether a register is within two values, both inclusive.
    Range { sreg: Reg, inverted: bool, from: Vec<u8>, to: Vec<u8> },
    /// dreg = (sreg & mask) ^ xor; both of the same length.
    Bitwise { sreg: Reg, dreg: Reg, mask: Vec<u8>, xor: Vec<u8> },
    /// dreg = sreg with the bytes of this 32-bit number swapped between this machine's and the network's order.
    Byteorder { sreg: Reg, dreg: Reg },
    /// Looks a register up in a set or map of the same table.
    Lookup { set: String, sreg: Reg, found: Found },
    /// Loads a constant.
    Immediate { dreg: Reg, data: Vec<u8> },
    /// Ends the rule with a verdict.
    Verdict(Verdict),
    /// Counts packets and bytes; read back as zero, so that equal rules compare equal.
    Counter,
    /// Answers with an ICMP error or a reset: `enum nft_reject_types`, code.
    Reject { kind: u32, code: u8 },
    /// Another expression, which only the kernel and its writer understand.
    Unknown { name: String },
}

impl Expr {
    /// Appends the expression as an element of a rule's list. An [`Expr::Unknown`] can't be written; the kernel
    /// refuses it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.nest(NFTA_LIST_ELEM, |out| {
            out.put_str(NFTA_EXPR_NAME, self.name());
            out.nest(NFTA_EXPR_DATA, |out| self.encode_data(out));
        });
    }

    fn name(&self) -> &str {
        match self {
            Expr::Meta { .. } | Expr::MetaSet { .. } => "meta",
            Expr::Ct { .. } => "ct",
            Expr::Payload { .. } => "payload",
            Expr::Cmp { .. } => "cmp",
            Expr::Range { .. } => "range",
            Expr::Bitwise { .. } => "bitwise",
            Expr::Byteorder { .. } => "byteorder",
            Expr::Lookup { .. } => "lookup",
            Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
            Expr::Counter => "counter",
            Expr::Reject { .. } => "reject",
            Expr::Unknown { name } => name,
        }
    }

    fn encode_data(&self, out: &mut Vec<u8>) {
        match self {
            Expr::Meta { key, dreg } => {
                out.put_u32(NFTA_META_KEY, *key as u32);
                out.put_u32(NFTA_META_DREG, dreg.encode());
            }
            Expr::MetaSet { key, sreg } => {
                out.put_u32(NFTA_META_KEY, *key as u32);
                out.put_u32(NFTA_META_SREG, sreg.encode());
            }
            Expr::Ct { key, dreg } => {
                out.put_u32(NFTA_CT_KEY, *key as u32);
                out.put_u32(NFTA_CT_DREG, dreg.encode());
            }
            Expr::Payload { base, offset, len, dreg } => {
                out.put_u32(NFTA_PAYLOAD_DREG, dreg.encode());
                out.put_u32(NFTA_PAYLOAD_BASE, *base as u32);
                out.put_u32(NFTA_PAYLOAD_OFFSET, *offset);
                out.put_u32(NFTA_PAYLOAD_LEN, *len);
            }
            Expr::Cmp { sreg, op, data } => {
                out.put_u32(NFTA_CMP_SREG, sreg.encode());
                out.put_u32(NFTA_CMP_OP, *op as u32);
                put_data(out, NFTA_CMP_DATA, data);
            }
            Expr::Range { sreg, inverted, from, to } => {
                out.put_u32(NFTA_RANGE_SREG, sreg.encode());
                out.put_u32(NFTA_RANGE_OP, u32::from(*inverted));
                put_data(out, NFTA_RANGE_FROM_DATA, from);
                put_data(out, NFTA_RANGE_TO_DATA, to);
            }
            Expr::Bitwise { sreg, dreg, mask, xor } => {
                out.put_u32(NFTA_BITWISE_SREG, sreg.encode());
                out.put_u32(NFTA_BITWISE_DREG, dreg.encode());
                out.put_u32(NFTA_BITWISE_LEN, mask.len() as u32);
                put_data(out, NFTA_BITWISE_MASK, mask);
                put_data(out, NFTA_BITWISE_XOR, xor);
            }
            Expr::Byteorder { sreg, dreg } => {
                out.put_u32(NFTA_BYTEORDER_SREG, sreg.encode());
                out.put_u32(NFTA_BYTEORDER_DREG, dreg.encode());
                out.put_u32(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON);
                out.put_u32(NFTA_BYTEORDER_LEN, 4);
                out.put_u32(NFTA_BYTEORDER_SIZE, 4);
            }
            Expr::Lookup { set, sreg, found } => {
                out.put_str(NFTA_LOOKUP_SET, set);
                out.put_u32(NFTA_LOOKUP_SREG, sreg.encode());
                match found {
                    Found::Continue => {}
                    Found::Stop => out.put_u32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV),
                    Found::Data(dreg) => out.put_u32(NFTA_LOOKUP_DREG, dreg.encode()),
                    Found::Verdict => out.put_u32(NFTA_LOOKUP_DREG, 0),
                }
            }
            Expr::Immediate { dreg, data } => {
                out.put_u32(NFTA_IMMEDIATE_DREG, dreg.encode());
                put_data(out, NFTA_IMMEDIATE_DATA, data);
            }
            Expr::Verdict(verdict) => {
                out.put_u32(NFTA_IMMEDIATE_DREG, 0);
                out.nest(NFTA_IMMEDIATE_DATA, |out| verdict.encode(out));
            }
            Expr::Counter => {
                out.put_u64(NFTA_COUNTER_BYTES, 0);
                out.put_u64(NFTA_COUNTER_PACKETS, 0);
            }
            Expr::Reject { kind, code } => {
                out.put_u32(NFTA_REJECT_TYPE, *kind);
                out.put_bytes(NFTA_REJECT_ICMP_CODE, &[*code]);
            }
            Expr::Unknown { .. } => {}
        }
    }

    /// Reads the list of a dumped rule.
    pub(crate) fn decode_list(list: Attrs<'_>) -> Vec<Expr> {
        list.into_iter()
            .map(|(_, value)| {
                let expr = Attrs(value);
                let name = expr.string(NFTA_EXPR_NAME).unwrap_or_default();
                let data = expr.nested(NFTA_EXPR_DATA).unwrap_or(Attrs(&[]));
                Expr::decode(&name, data).unwrap_or(Expr::Unknown { name })
            })
            .collect()
    }

    fn decode(name: &str, data: Attrs<'_>) -> Option<Expr> {
        let reg = |kind| Reg::decode(data.be32(kind)?);
        Some(match name {
            "meta" => {
                let key = MetaKey::decode(data.be32(NFTA_META_KEY)?)?;
                match reg(NFTA_META_SREG) {
                    Some(sreg) => Expr::MetaSet { key, sreg },
                    None => Expr::Meta { key, dreg: reg(NFTA_META_DREG)? },
                }
            }
            "ct" => {
                let key = match data.be32(NFTA_CT_KEY)? {
                    0 => CtKey::State,
                    3 => CtKey::Mark,
                    _ => return None,
                };
                Expr::Ct { key, dreg: reg(NFTA_CT_DREG)? }
            }
            "payload" => Expr::Payload {
                base: match data.be32(NFTA_PAYLOAD_BASE)? {
                    0 => PayloadBase::Link,
                    1 => PayloadBase::Network,
                    2 => PayloadBase::Transport,
                    _ => return None,
                },
                offset: data.be32(NFTA_PAYLOAD_OFFSET)?,
                len: data.be32(NFTA_PAYLOAD_LEN)?,
                dreg: reg(NFTA_PAYLOAD_DREG)?,
            },
            "cmp" => Expr::Cmp {
                sreg: reg(NFTA_CMP_SREG)?,
                op: match data.be32(NFTA_CMP_OP)? {
                    0 => CmpOp::Eq,
                    1 => CmpOp::Neq,
                    2 => CmpOp::Lt,
                    3 => CmpOp::Lte,
                    4 => CmpOp::Gt,
                    5 => CmpOp::Gte,
                    _ => return None,
                },
                data: value(data, NFTA_CMP_DATA)?,
            },
            "range" => Expr::Range {
                sreg: reg(NFTA_RANGE_SREG)?,
                inverted: data.be32(NFTA_RANGE_OP)? != 0,
                from: value(data, NFTA_RANGE_FROM_DATA)?,
                to: value(data, NFTA_RANGE_TO_DATA)?,
            },
            "bitwise" => Expr::Bitwise {
                sreg: reg(NFTA_BITWISE_SREG)?,
                dreg: reg(NFTA_BITWISE_DREG)?,
                mask: value(data, NFTA_BITWISE_MASK)?,
                xor: value(data, NFTA_BITWISE_XOR)?,
            },
            "byteorder" => {
                let shape = [NFTA_BYTEORDER_OP, NFTA_BYTEORDER_LEN, NFTA_BYTEORDER_SIZE].map(|kind| data.be32(kind));
                if shape != [Some(NFT_BYTEORDER_HTON), Some(4), Some(4)] {
                    return None;
                }
                Expr::Byteorder { sreg: reg(NFTA_BYTEORDER_SREG)?, dreg: reg(NFTA_BYTEORDER_DREG)? }
            }
            "lookup" => Expr::Lookup {
                set: data.string(NFTA_LOOKUP_SET)?,
                sreg: reg(NFTA_LOOKUP_SREG)?,
                found: match (data.be32(NFTA_LOOKUP_DREG), data.be32(NFTA_LOOKUP_FLAGS).unwrap_or(0)) {
                    (Some(0), _) => Found::Verdict,
                    (Some(dreg), _) => Found::Data(Reg::decode(dreg)?),
                    (None, 0) => Found::Continue,
                    (None, _) => Found::Stop,
                },
            },
            "immediate" => match data.be32(NFTA_IMMEDIATE_DREG)? {
                0 => Expr::Verdict(Verdict::decode(data.nested(NFTA_IMMEDIATE_DATA)?)?),
                dreg => Expr::Immediate { dreg: Reg::decode(dreg)?, data: value(data, NFTA_IMMEDIATE_DATA)? },
            },
            "counter" => Expr::Counter,
            "reject" => Expr::Reject {
                kind: data.be32(NFTA_REJECT_TYPE)?,
                code: data.find(NFTA_REJECT_ICMP_CODE)?.first().copied()?,
            },
            _ => return None,
        })
    }
}

fn put_data(out: &mut Vec<u8>, kind: u16, data: &[u8]) {
    out.nest(kind, |out| out.put_bytes(NFTA_DATA_VALUE, data));
}

fn value(data: Attrs<'_>, kind: u16) -> Option<Vec<u8>> {
    data.nested(kind)?.find(NFTA_DATA_VALUE).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_as_the_same() {
        let exprs = vec![
            Expr::Meta { key: MetaKey::Iifname, dreg: Reg(4) },
            Expr::MetaSet { key: MetaKey::Mark, sreg: Reg(8) },
            Expr::Ct { key: CtKey::State, dreg: Reg(0) },
            Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: Reg(3) },
            Expr::Cmp { sreg: Reg(0), op: CmpOp::Neq, data: vec![0; 4] },
            Expr::Range { sreg: Reg(1), inverted: true, from: vec![1], to: vec![2] },
            Expr::Bitwise { sreg: Reg(0), dreg: Reg(0), mask: vec![6, 0, 0, 0], xor: vec![0; 4] },
            Expr::Byteorder { sreg: Reg(1), dreg: Reg(1) },
            Expr::Lookup { set: "s".into(), sreg: Reg(4), found: Found::Data(Reg(0)) },
            Expr::Lookup { set: "s".into(), sreg: Reg(4), found: Found::Stop },
            Expr::Lookup { set: "s".into(), sreg: Reg(4), found: Found::Verdict },
            Expr::Immediate { dreg: Reg(0), data: vec![1, 2, 3, 4] },
            Expr::Counter,
            Expr::Verdict(Verdict::Jump("other".into())),
        ];
        let mut list = Vec::new();
        exprs.iter().for_each(|e| e.encode(&mut list));
        assert_eq!(Expr::decode_list(Attrs(&list)), exprs);
    }

    #[test]
    fn an_expression_that_is_not_understood_keeps_its_name() {
        let mut list = Vec::new();
        Expr::Unknown { name: "xfrm".into() }.encode(&mut list);
        assert_eq!(Expr::decode_list(Attrs(&list)), [Expr::Unknown { name: "xfrm".into() }]);
    }
}
