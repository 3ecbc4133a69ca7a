use std::collections::BTreeMap;

use margay_net::Cidr;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many addresses somebody holds in which blocks.
///
/// It is written before a block is, so that after a crash it may count too much and never too little.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handle {
    pub block: BTreeMap<Cidr, u64>,
    pub deleted: bool,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Handle {
    pub fn decode(json: &[u8]) -> Result<Handle, serde_json::Error> {
        serde_json::from_slice(json)
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn increment(&mut self, block: Cidr, count: u64) {
        *self.block.entry(block).or_default() += count;
    }

    /// Takes `count` from the block's, at most what is there.
    pub fn decrement(&mut self, block: Cidr, count: u64) {
        if let Some(held) = self.block.get_mut(&block) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.block.remove(&block);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_calicos_and_counts_never_fall_below_zero() {
        let block: Cidr = "10.65.0.0/26".parse().expect("prefix");
        let mut handle = Handle::default();
        handle.increment(block, 1);
        assert_eq!(handle.encode(), br#"{"block":{"10.65.0.0/26":1},"deleted":false}"#);
        handle.decrement(block, 2);
        assert!(handle.is_empty());
    }
}
