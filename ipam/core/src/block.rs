use std::collections::BTreeMap;
use std::net::IpAddr;

use margay_net::Cidr;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A block of a pool: who owns it, and who holds each of its addresses.
///
/// The JSON is Calico's `AllocationBlock`; fields that are not listed here survive a read-modify-write. Go writes an
/// empty list or map as `null` at times, which is read as empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    pub cidr: Cidr,
    /// `host:NODE` or `virtual:NAME`; absent for a block that nobody owns.
    pub affinity: Option<String>,
    /// By ordinal: an index into `attributes`, or nothing for a free address.
    pub allocations: Vec<Option<usize>>,
    /// The free ordinals, the longest free first, so that an address is not used again at once.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub unallocated: Vec<usize>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub attributes: Vec<AllocationAttribute>,
    /// Grows with every write; starts at the time of creation in nanoseconds, so that a block made anew continues.
    #[serde(default)]
    pub sequence_number: u64,
    /// By ordinal in decimal: the block's sequence number when the address was assigned.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    #[serde(default)]
    pub deleted: bool,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AllocationAttribute {
    pub handle_id: Option<String>,
    #[serde(default)]
    pub secondary: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// A stored block that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("block {cidr} is inconsistent: {reason}")]
pub struct BlockError {
    pub cidr: Cidr,
    pub reason: String,
}

impl Block {
    /// A block without allocations, owned by `host`. `nanoseconds` is the present since the Unix epoch.
    pub fn new(cidr: Cidr, host: &str, nanoseconds: u64) -> Block {
        let size = usize::try_from(cidr.size()).unwrap_or(0);
        Block {
            cidr,
            affinity: Some(format!("host:{host}")),
            allocations: vec![None; size],
            unallocated: (0..size).collect(),
            attributes: Vec::new(),
            sequence_number: nanoseconds,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: false,
            extra: BTreeMap::new(),
        }
    }

    pub fn decode(json: &[u8]) -> Result<Block, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Says how the block contradicts itself, if it does.
    pub fn check(&self) -> Result<(), BlockError> {
        let error = |reason: String| Err(BlockError { cidr: self.cidr, reason });
        if self.allocations.len() as u128 != self.cidr.size() {
            return error(format!("{} allocations for {} addresses", self.allocations.len(), self.cidr.size()));
        }
        let mut free = vec![false; self.allocations.len()];
        for ordinal in &self.unallocated {
            match free.get_mut(*ordinal) {
                None => return error(format!("free ordinal {ordinal} is outside")),
                Some(seen) if *seen => return error(format!("ordinal {ordinal} is twice among the free")),
                Some(seen) => *seen = true,
            }
        }
        for (ordinal, (allocation, free)) in self.allocations.iter().zip(&free).enumerate() {
            match allocation {
                Some(_) if *free => return error(format!("ordinal {ordinal} is both assigned and free")),
                Some(index) if *index >= self.attributes.len() => {
                    return error(format!("ordinal {ordinal} names attribute {index}, which is not there"));
                }
                None if !free => return error(format!("ordinal {ordinal} is neither assigned nor free")),
                _ => {}
            }
        }
        Ok(())
    }

    /// The node that owns the block.
    pub fn host(&self) -> Option<&str> {
        self.affinity.as_deref()?.strip_prefix("host:")
    }

    pub fn free(&self) -> usize {
        self.unallocated.len()
    }

    pub fn used(&self) -> usize {
        self.allocations.len() - self.unallocated.len()
    }

    pub fn is_empty(&self) -> bool {
        self.allocations.iter().all(Option::is_none)
    }

    /// Takes the longest free address that `usable` accepts, for `handle`.
    pub fn assign(
        &mut self,
        handle: &str,
        secondary: &BTreeMap<String, String>,
        usable: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let position = self.unallocated.iter().position(|ordinal| self.address(*ordinal).is_some_and(&usable))?;
        let ordinal = self.unallocated.remove(position);
        let attribute = AllocationAttribute {
            handle_id: Some(handle.to_owned()),
            secondary: Some(secondary.clone()),
            extra: BTreeMap::new(),
        };
        let index = self.attributes.iter().position(|known| *known == attribute).unwrap_or_else(|| {
            self.attributes.push(attribute);
            self.attributes.len() - 1
        });
        self.allocations[ordinal] = Some(index);
        self.sequence_number += 1;
        self.sequence_number_for_allocation.insert(ordinal.to_string(), self.sequence_number);
        self.address(ordinal)
    }

    /// Frees every address that `held_by` accepts, and says which.
    pub fn release(&mut self, held_by: impl Fn(IpAddr, &AllocationAttribute) -> bool) -> Vec<IpAddr> {
        let mut released = Vec::new();
        for ordinal in 0..self.allocations.len() {
            let Some(addr) = self.address(ordinal) else { continue };
            let held = self.allocations[ordinal].and_then(|index| self.attributes.get(index));
            if held.is_some_and(|attribute| held_by(addr, attribute)) {
                self.allocations[ordinal] = None;
                self.unallocated.push(ordinal);
                self.sequence_number_for_allocation.remove(&ordinal.to_string());
                released.push(addr);
            }
        }
        if !released.is_empty() {
            self.sequence_number += 1;
            self.drop_unused_attributes();
        }
        released
    }

    /// Changes nothing but the sequence number, so that writing the block makes every write of it that is still under
    /// way a conflict.
    pub fn touch(&mut self) {
        self.sequence_number += 1;
    }

    /// Each assigned address and who holds it.
    pub fn assigned(&self) -> impl Iterator<Item = (IpAddr, &AllocationAttribute)> {
        self.allocations
            .iter()
            .enumerate()
            .filter_map(|(ordinal, index)| Some((self.address(ordinal)?, self.attributes.get((*index)?)?)))
    }

    fn address(&self, ordinal: usize) -> Option<IpAddr> {
        self.cidr.nth(ordinal as u128)
    }

    fn drop_unused_attributes(&mut self) {
        let mut used = vec![false; self.attributes.len()];
        for index in self.allocations.iter().flatten() {
            used[*index] = true;
        }
        let renumbered: Vec<usize> = used
            .iter()
            .scan(0, |kept, used| {
                let index = *kept;
                *kept += usize::from(*used);
                Some(index)
            })
            .collect();
        let mut position = 0;
        self.attributes.retain(|_| {
            position += 1;
            used[position - 1]
        });
        for index in self.allocations.iter_mut().flatten() {
            *index = renumbered[*index];
        }
    }
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secondary() -> BTreeMap<String, String> {
        BTreeMap::from([("node".to_owned(), "n1".to_owned()), ("pod".to_owned(), "web".to_owned())])
    }

    #[test]
    fn json_is_calicos() {
        let mut block = Block::new("10.65.0.0/30".parse().expect("prefix"), "n1", 7);
        block.assign("net.c1", &secondary(), |_| true);
        let expected = concat!(
            r#"{"cidr":"10.65.0.0/30","affinity":"host:n1","allocations":[0,null,null,null],"unallocated":[1,2,3],"#,
            r#""attributes":[{"handle_id":"net.c1","secondary":{"node":"n1","pod":"web"}}],"sequenceNumber":8,"#,
            r#""sequenceNumberForAllocation":{"0":8},"deleted":false}"#
        );
        assert_eq!(String::from_utf8_lossy(&block.encode()), expected);
        assert_eq!(Block::decode(expected.as_bytes()).expect("a block"), block);
    }

    #[test]
    fn fields_of_a_newer_calico_survive() {
        let json = r#"{"cidr":"10.65.0.0/31","affinity":null,"affinityClaimTime":"2026-01-01T00:00:00Z","allocations":[0,null],
            "unallocated":[1],"attributes":[{"handle_id":"a","secondary":null,"releasedAt":"2026-01-01T00:00:00Z"}]}"#;
        let block = Block::decode(json.as_bytes()).expect("a block");
        let back: Value = serde_json::from_slice(&block.encode()).expect("JSON");
        assert_eq!(back["affinityClaimTime"], "2026-01-01T00:00:00Z");
        assert_eq!(back["attributes"][0]["releasedAt"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn what_go_writes_as_null_is_empty() {
        let json = r#"{"cidr":"10.65.0.0/31","affinity":"host:n1","allocations":[0,0],"unallocated":null,
            "attributes":[{"handle_id":"a","secondary":null}],"sequenceNumber":3,"sequenceNumberForAllocation":null}"#;
        let mut block = Block::decode(json.as_bytes()).expect("a block");
        assert_eq!((block.check(), block.free()), (Ok(()), 0));
        assert_eq!(block.release(|_, _| true).len(), 2);
        let empty = json.replace("[0,0]", "[null,null]").replace(r#"[{"handle_id":"a","secondary":null}]"#, "null");
        let empty = empty.replace(r#""unallocated":null"#, r#""unallocated":[0,1]"#);
        assert_eq!(Block::decode(empty.as_bytes()).expect("a block").check(), Ok(()));
    }

    #[test]
    fn a_freed_address_is_the_last_to_be_used_again() {
        let mut block = Block::new("10.65.0.0/30".parse().expect("prefix"), "n1", 0);
        let first = block.assign("a", &secondary(), |_| true);
        assert_eq!(block.release(|_, held| held.handle_id.as_deref() == Some("a")), Vec::from_iter(first));
        let next: Vec<_> = (0..4).filter_map(|_| block.assign("b", &secondary(), |_| true)).collect();
        assert_eq!(next.last().copied(), first);
        assert_eq!(block.assign("c", &secondary(), |_| true), None);
    }

    #[test]
    fn a_block_that_contradicts_itself_is_found_out() {
        let good = Block::new("10.65.0.0/30".parse().expect("prefix"), "n1", 0);
        assert_eq!(good.check(), Ok(()));
        let mut both = good.clone();
        both.assign("a", &secondary(), |_| true);
        both.unallocated.push(0);
        assert!(both.check().is_err());
        let mut neither = good.clone();
        neither.unallocated.pop();
        assert!(neither.check().is_err());
        let mut short = good;
        short.allocations.pop();
        assert!(short.check().is_err());
    }

    proptest! {
        #[test]
        fn every_address_has_one_holder_or_is_free(steps in proptest::collection::vec((0u8..6, any::<bool>()), 0..200)) {
            let mut block = Block::new("10.65.0.0/28".parse().expect("prefix"), "n1", 0);
            let mut model: BTreeMap<IpAddr, String> = BTreeMap::new();
            for (who, assigns) in steps {
                let handle = format!("h{who}");
                if assigns {
                    match block.assign(&handle, &secondary(), |_| true) {
                        Some(addr) => prop_assert!(model.insert(addr, handle).is_none()),
                        None => prop_assert_eq!(model.len(), 16),
                    }
                } else {
                    for addr in block.release(|_, held| held.handle_id.as_deref() == Some(&handle)) {
                        prop_assert_eq!(model.remove(&addr), Some(handle.clone()));
                    }
                    prop_assert!(!model.values().any(|held| *held == handle));
                }
                prop_assert_eq!(block.check(), Ok(()));
                let held: BTreeMap<IpAddr, String> =
                    block.assigned().map(|(addr, held)| (addr, held.handle_id.clone().unwrap_or_default())).collect();
                prop_assert_eq!(&held, &model);
                prop_assert_eq!(Block::decode(&block.encode()).expect("a block"), block.clone());
            }
        }
    }
}
