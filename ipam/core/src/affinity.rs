use serde::{Deserialize, Serialize};

/// How far a host's claim of a block has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AffinityState {
    /// Announced; the block may not be there yet, or be another's.
    Pending,
    /// The block exists and names the host. An empty value means this.
    #[default]
    #[serde(alias = "")]
    Confirmed,
    /// About to be given up.
    PendingDeletion,
}

/// A host's claim of a block, kept under the host's own key so that it can list its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockAffinity {
    pub state: AffinityState,
    pub deleted: bool,
}

impl BlockAffinity {
    pub fn in_state(state: AffinityState) -> BlockAffinity {
        BlockAffinity { state, deleted: false }
    }

    /// Reads a stored affinity; an empty value, as old Calico versions wrote, is a confirmed one.
    pub fn decode(json: &[u8]) -> Result<BlockAffinity, serde_json::Error> {
        if json.is_empty() { Ok(BlockAffinity::default()) } else { serde_json::from_slice(json) }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_calicos() {
        let pending = BlockAffinity::in_state(AffinityState::PendingDeletion);
        assert_eq!(pending.encode(), br#"{"state":"pendingDeletion","deleted":false}"#);
        assert_eq!(BlockAffinity::decode(b"").expect("empty").state, AffinityState::Confirmed);
        assert_eq!(BlockAffinity::decode(b"{}").expect("empty object").state, AffinityState::Confirmed);
        assert_eq!(BlockAffinity::decode(br#"{"state":""}"#).expect("empty state").state, AffinityState::Confirmed);
    }
}
