use super::attr::{PutAttr, put_comment};
use super::datatype::{byte_orders, key_len};
use super::object::{Chain, Element, ElementData, MapData, Rule, Set};
use super::uapi::*;
use crate::message::Attrs;

/// Where a list of elements is cut into the next message: attributes have 16-bit lengths.
const ELEMENTS_MAX: usize = 60_000;

/// User-data types that `nft` shows as comments.
pub(crate) const TABLE_COMMENT: u8 = 0;
pub(crate) const RULE_COMMENT: u8 = 0;

/// A transaction on one table of the inet family: what is in it happens at once or not at all, in the order given.
///
/// Objects may refer to others that the same batch created earlier.
#[derive(Debug)]
pub struct Batch {
    pub(crate) table: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) operations: Vec<Operation>,
    set_ids: u32,
}

/// One message of a batch, to name it in an error. Its sequence number is its index + 1 (BATCH_BEGIN has 0).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    verb: &'static str,
    kind: &'static str,
    offset: usize,
}

impl Batch {
    pub fn new(table: &str) -> Batch {
        let mut batch = Batch { table: table.into(), bytes: Vec::new(), operations: Vec::new(), set_ids: 0 };
        let start = batch.begin_message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, 0);
        batch.end_message(start);
        batch
    }

    /// Makes the transaction fail with [`NftErrorKind::GenerationChanged`](super::NftErrorKind) if anything was
    /// changed since that generation. Call it first.
    pub fn require_generation(&mut self, generation: u32) {
        debug_assert!(self.operations.is_empty());
        self.bytes.clear();
        let start = self.begin_message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, 0);
        self.bytes.put_u32(NFNL_BATCH_GENID, generation);
        self.end_message(start);
    }

    /// Tells whether nothing would be done.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The size so far, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Creates the table, or does nothing if it exists.
    pub fn add_table(&mut self, comment: Option<&str>) {
        self.message("add", "table", NFT_MSG_NEWTABLE, NLM_F_CREATE, |table, out| {
            out.put_str(NFTA_TABLE_NAME, table);
            out.put_u32(NFTA_TABLE_FLAGS, 0);
            if let Some(comment) = comment {
                let mut data = Vec::new();
                put_comment(&mut data, TABLE_COMMENT, comment);
                out.put_bytes(NFTA_TABLE_USERDATA, &data);
            }
        });
    }

    /// Deletes the table with everything in it; fails if it isn't there.
    pub fn delete_table(&mut self) {
        self.message("delete", "table", NFT_MSG_DELTABLE, 0, |table, out| out.put_str(NFTA_TABLE_NAME, table));
    }

    /// Creates the chain; does nothing if an equal one exists.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.message("add", "chain", NFT_MSG_NEWCHAIN, NLM_F_CREATE, |table, out| {
            out.put_str(NFTA_CHAIN_TABLE, table);
            out.put_str(NFTA_CHAIN_NAME, &chain.name);
            if let Some(base) = &chain.base {
                out.nest(NFTA_CHAIN_HOOK, |out| {
                    out.put_u32(NFTA_HOOK_HOOKNUM, base.hook as u32);
                    out.put_u32(NFTA_HOOK_PRIORITY, base.priority as u32);
                });
                out.put_u32(NFTA_CHAIN_POLICY, u32::from(base.accept));
                out.put_str(NFTA_CHAIN_TYPE, &base.kind);
            }
        });
    }

    /// Deletes the chain, which must be empty and not jumped to.
    pub fn delete_chain(&mut self, name: &str) {
        self.message("delete", "chain", NFT_MSG_DELCHAIN, 0, |table, out| {
            out.put_str(NFTA_CHAIN_TABLE, table);
            out.put_str(NFTA_CHAIN_NAME, name);
        });
    }

    /// Appends the rule to the chain.
    pub fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.message("add", "rule", NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |table, out| {
            out.put_str(NFTA_RULE_TABLE, table);
            out.put_str(NFTA_RULE_CHAIN, chain);
            out.nest(NFTA_RULE_EXPRESSIONS, |out| rule.exprs.iter().for_each(|expr| expr.encode(out)));
            if let Some(comment) = &rule.comment {
                let mut data = Vec::new();
                put_comment(&mut data, RULE_COMMENT, comment);
                out.put_bytes(NFTA_RULE_USERDATA, &data);
            }
        });
    }

    /// Deletes one rule by the handle that a dump told.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.message("delete", "rule", NFT_MSG_DELRULE, 0, |table, out| {
            out.put_str(NFTA_RULE_TABLE, table);
            out.put_str(NFTA_RULE_CHAIN, chain);
            out.put_u64(NFTA_RULE_HANDLE, handle);
        });
    }

    /// Deletes every rule of the chain.
    pub fn flush_chain(&mut self, chain: &str) {
        self.message("flush", "chain", NFT_MSG_DELRULE, 0, |table, out| {
            out.put_str(NFTA_RULE_TABLE, table);
            out.put_str(NFTA_RULE_CHAIN, chain);
        });
    }

    /// Creates the set or map; does nothing if an equal one exists.
    pub fn add_set(&mut self, set: &Set) {
        self.set_ids += 1;
        let id = self.set_ids;
        let signature = set.signature();
        self.message("add", "set", NFT_MSG_NEWSET, NLM_F_CREATE, |table, out| {
            out.put_str(NFTA_SET_TABLE, table);
            out.put_str(NFTA_SET_NAME, &set.name);
            out.put_u32(NFTA_SET_FLAGS, signature.flags);
            out.put_u32(NFTA_SET_KEY_TYPE, signature.key_type);
            out.put_u32(NFTA_SET_KEY_LEN, signature.key_len);
            match &set.data {
                None => {}
                Some(MapData::Verdicts) => out.put_u32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
                Some(MapData::Values(fields)) => {
                    out.put_u32(NFTA_SET_DATA_TYPE, signature.data_type);
                    out.put_u32(NFTA_SET_DATA_LEN, key_len(fields));
                }
            }
            out.put_u32(NFTA_SET_ID, id);
            let data = if let Some(MapData::Values(fields)) = &set.data { Some(fields.as_slice()) } else { None };
            out.put_bytes(NFTA_SET_USERDATA, &byte_orders(&set.key, data));
            if signature.flags & NFT_SET_CONCAT != 0 {
                out.nest(NFTA_SET_DESC, |out| {
                    out.nest(NFTA_SET_DESC_CONCAT, |out| {
                        for field in &set.key {
                            out.nest(NFTA_LIST_ELEM, |out| out.put_u32(NFTA_SET_FIELD_LEN, field.len()));
                        }
                    });
                });
            }
        });
    }

    /// Deletes the set, which no rule may refer to.
    pub fn delete_set(&mut self, name: &str) {
        self.message("delete", "set", NFT_MSG_DELSET, 0, |table, out| {
            out.put_str(NFTA_SET_TABLE, table);
            out.put_str(NFTA_SET_NAME, name);
        });
    }

    /// Adds elements; one that is there already makes the transaction fail.
    pub fn add_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements("add", NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, set, elements);
    }

    /// Deletes elements; one that isn't there makes the transaction fail. A map's elements are found by their key.
    pub fn delete_elements(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.elements("delete", NFT_MSG_DELSETELEM, 0, set, elements);
    }

    fn elements(
        &mut self,
        verb: &'static str,
        message: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.message(verb, "element", message, flags, |table, out| {
                out.put_str(NFTA_SET_ELEM_LIST_TABLE, table);
                out.put_str(NFTA_SET_ELEM_LIST_SET, set);
                out.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
                    let start = out.len();
                    while out.len() - start < ELEMENTS_MAX {
                        let Some(element) = elements.next() else { break };
                        put_element(out, &element);
                    }
                });
            });
        }
    }

    fn message(
        &mut self,
        verb: &'static str,
        kind: &'static str,
        message: u16,
        flags: u16,
        fill: impl FnOnce(&str, &mut Vec<u8>),
    ) {
        let sequence = self.operations.len() as u32 + 1;
        let offset = self.bytes.len();
        let message = (NFNL_SUBSYS_NFTABLES << 8) | message;
        self.begin_message(message, NLM_F_REQUEST | flags, NFPROTO_INET, 0, sequence);
        fill(&self.table, &mut self.bytes);
        self.end_message(offset);
        self.operations.push(Operation { verb, kind, offset });
    }

    /// Appends a netlink header and the nfgenmsg behind it; `end_message` sets the length.
    fn begin_message(&mut self, message: u16, flags: u16, family: u8, resource: u16, sequence: u32) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&message.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        start
    }

    fn end_message(&mut self, start: usize) {
        let len = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Ends the batch; the last operation asks for an acknowledgement, which the kernel sends after the commit.
    pub(crate) fn finish(&mut self) {
        if let Some(last) = self.operations.last() {
            let at = last.offset + 6;
            let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | NLM_F_ACK;
            self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let sequence = self.operations.len() as u32 + 1;
        let start = self.begin_message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, sequence);
        self.end_message(start);
    }

    /// Describes the operation with this sequence number, as in "add element 3 of 40 to set allow_one".
    pub(crate) fn describe(&self, sequence: u32, attribute_offset: Option<u32>) -> String {
        let Some(op) = (sequence as usize).checked_sub(1).and_then(|i| self.operations.get(i)) else {
            return format!("commit to table {}", self.table);
        };
        let message = &self.bytes[op.offset..];
        let len = u32::from_ne_bytes([message[0], message[1], message[2], message[3]]) as usize;
        let attrs = Attrs(&message[20..len]);
        let name = |kind| attrs.string(kind).unwrap_or_default();
        match op.kind {
            "table" => format!("{} table {}", op.verb, self.table),
            "chain" if op.verb == "flush" => format!("flush chain {}", name(NFTA_RULE_CHAIN)),
            "chain" => format!("{} chain {}", op.verb, name(NFTA_CHAIN_NAME)),
            "rule" => format!("{} rule of chain {}", op.verb, name(NFTA_RULE_CHAIN)),
            "set" => format!("{} set {}", op.verb, name(NFTA_SET_NAME)),
            _ => {
                let list = attrs.find(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
                let total = Attrs(list).into_iter().count();
                let position = attribute_offset.and_then(|offset| {
                    let at = (op.offset + offset as usize)
                        .checked_sub(list.as_ptr() as usize - self.bytes.as_ptr() as usize)?;
                    let starts = Attrs(list).into_iter().scan(0, |start, (_, value)| {
                        *start += 4 + value.len().next_multiple_of(4);
                        Some(*start)
                    });
                    Some(starts.take_while(|end| *end <= at).count() + 1).filter(|n| *n <= total)
                });
                let which = position.map_or(String::new(), |n| format!(" {n}"));
                let preposition = if op.verb == "add" { "to" } else { "from" };
                format!("{} element{which} of {total} {preposition} set {}", op.verb, name(NFTA_SET_ELEM_LIST_SET))
            }
        }
    }
}

fn put_element(out: &mut Vec<u8>, element: &Element) {
    out.nest(NFTA_LIST_ELEM, |out| {
        if element.interval_end {
            out.put_u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
        }
        out.nest(NFTA_SET_ELEM_KEY, |out| out.put_bytes(NFTA_DATA_VALUE, &element.key));
        if let Some(end) = &element.key_end {
            out.nest(NFTA_SET_ELEM_KEY_END, |out| out.put_bytes(NFTA_DATA_VALUE, end));
        }
        match &element.data {
            None => {}
            Some(ElementData::Value(value)) => {
                out.nest(NFTA_SET_ELEM_DATA, |out| out.put_bytes(NFTA_DATA_VALUE, value));
            }
            Some(ElementData::Verdict(verdict)) => out.nest(NFTA_SET_ELEM_DATA, |out| verdict.encode(out)),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_elements_are_cut_below_64_kib() {
        let mut batch = Batch::new("t");
        batch.add_elements("s", (0..10_000u32).map(|n| Element::new(n.to_ne_bytes().to_vec())));
        assert!(batch.operations.len() > 1);
        let ends = batch.operations.iter().skip(1).map(|o| o.offset).chain([batch.bytes.len()]);
        for (op, end) in batch.operations.iter().zip(ends) {
            assert!(end - op.offset < ATTRIBUTE_LIMIT, "{} bytes", end - op.offset);
        }
    }

    const ATTRIBUTE_LIMIT: usize = 65_536;

    #[test]
    fn an_error_names_the_operation_and_the_element() {
        let mut batch = Batch::new("t");
        batch.add_chain(&Chain { name: "c".into(), base: None });
        batch.add_elements("allow", (0..3u32).map(|n| Element::new(n.to_ne_bytes().to_vec())));
        assert_eq!(batch.describe(1, None), "add chain c");
        assert_eq!(batch.describe(2, None), "add element of 3 to set allow");
        // Header 20, table 8, set 12, list header 4, then 16 bytes for each element.
        assert_eq!(batch.describe(2, Some(44)), "add element 1 of 3 to set allow");
        assert_eq!(batch.describe(2, Some(44 + 20)), "add element 2 of 3 to set allow");
        assert_eq!(batch.describe(0, None), "commit to table t");
    }
}
