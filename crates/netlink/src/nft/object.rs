use super::datatype::{Datatype, concat_type, key_len};
use super::expr::{Expr, Verdict};
use super::uapi::*;

/// The hooks of the inet family (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl Hook {
    pub(crate) fn decode(value: u32) -> Option<Hook> {
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
            .into_iter()
            .find(|h| *h as u32 == value)
    }
}

/// What makes a chain a base chain: the kernel calls it by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// `filter`, `route` or `nat`.
    pub kind: String,
    pub hook: Hook,
    /// Lower comes first; raw is -300, conntrack -200, filter 0.
    pub priority: i32,
    /// What happens to a packet that reaches the chain's end: true for accept, false for drop.
    pub accept: bool,
}

/// A chain; without `base` it is reached by jumps only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    pub base: Option<BaseChain>,
}

/// A rule, without the handle that the kernel gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub exprs: Vec<Expr>,
    /// Shown by `nft list`, at most 254 bytes.
    pub comment: Option<String>,
}

/// What the elements of a map hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapData {
    Values(Vec<Datatype>),
    Verdicts,
}

/// A set, or with `data` a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    /// The fields of the key: more than one make a concatenation.
    pub key: Vec<Datatype>,
    /// Elements are ranges. Without it the kernel hashes.
    pub interval: bool,
    pub data: Option<MapData>,
}

impl Set {
    pub fn hash(name: &str, key: &[Datatype]) -> Set {
        Set { name: name.into(), key: key.to_vec(), interval: false, data: None }
    }

    pub fn interval(name: &str, key: &[Datatype]) -> Set {
        Set { interval: true, ..Set::hash(name, key) }
    }

    /// Makes a map of the set.
    pub fn with_data(self, fields: &[Datatype]) -> Set {
        Set { data: Some(MapData::Values(fields.to_vec())), ..self }
    }

    /// Makes a verdict map of the set.
    pub fn with_verdicts(self) -> Set {
        Set { data: Some(MapData::Verdicts), ..self }
    }

    /// Tells how the kernel describes such a set, to compare a dumped one with it.
    pub fn signature(&self) -> SetSignature {
        let mut flags = 0;
        if self.interval {
            flags |= NFT_SET_INTERVAL;
            if self.key.len() > 1 {
                flags |= NFT_SET_CONCAT;
            }
        }
        let (data_type, data_len) = match &self.data {
            None => (0, 0),
            Some(MapData::Verdicts) => (NFT_DATA_VERDICT, 0),
            Some(MapData::Values(fields)) => (concat_type(fields), key_len(fields)),
        };
        if self.data.is_some() {
            flags |= NFT_SET_MAP;
        }
        SetSignature { flags, key_type: concat_type(&self.key), key_len: key_len(&self.key), data_type, data_len }
    }
}

/// A set's shape in the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetSignature {
    pub flags: u32,
    pub key_type: u32,
    pub key_len: u32,
    pub data_type: u32,
    pub data_len: u32,
}

/// What an element of a map holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ElementData {
    Value(Vec<u8>),
    Verdict(Verdict),
}

/// An element of a set as the kernel stores it; keys are made with [`Key`](super::Key).
///
/// - a hash set: `key` alone;
/// - a concatenation with ranges: `key` and `key_end`, both inclusive, the same where a field is no range;
/// - an interval set of one field: two elements, the first address, and the one *behind* the last with
///   `interval_end` (none if the range ends at the highest value): see [`Element::range`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    pub key: Vec<u8>,
    pub interval_end: bool,
    pub key_end: Option<Vec<u8>>,
    pub data: Option<ElementData>,
}

impl Element {
    pub fn new(key: Vec<u8>) -> Element {
        Element { key, interval_end: false, key_end: None, data: None }
    }

    /// The element of a map.
    pub fn with_value(key: Vec<u8>, value: Vec<u8>) -> Element {
        Element { data: Some(ElementData::Value(value)), ..Element::new(key) }
    }

    /// The element of a verdict map.
    pub fn with_verdict(key: Vec<u8>, verdict: Verdict) -> Element {
        Element { data: Some(ElementData::Verdict(verdict)), ..Element::new(key) }
    }

    /// A range of a concatenation, from all the lower to all the higher values.
    pub fn concat_range(from: Vec<u8>, to: Vec<u8>) -> Element {
        Element { key_end: Some(to), ..Element::new(from) }
    }

    /// The elements that stand for a range, both ends inclusive, in an interval set of one big-endian field.
    pub fn range(from: Vec<u8>, to: Vec<u8>, data: Option<ElementData>) -> impl Iterator<Item = Element> {
        let end = successor(to).map(|key| Element { interval_end: true, ..Element::new(key) });
        std::iter::once(Element { data, ..Element::new(from) }).chain(end)
    }
}

/// The next higher number of the same width, if there is one.
fn successor(mut number: Vec<u8>) -> Option<Vec<u8>> {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_its_last_value() {
        let elements: Vec<_> = Element::range(vec![10, 0], vec![10, 255], None).collect();
        assert_eq!(elements.len(), 2);
        assert_eq!((elements[1].key.as_slice(), elements[1].interval_end), (&[11, 0][..], true));
    }

    #[test]
    fn a_range_up_to_the_highest_value_has_no_end() {
        assert_eq!(Element::range(vec![0, 0], vec![255, 255], None).count(), 1);
    }
}
