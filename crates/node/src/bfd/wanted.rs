//! Who wants which sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use margay_bfd::{SessionConfig, SessionKey};
use margay_local_api::{BfdRefusal, BfdSessionConfig};

/// A session's owner, and what the owner calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) owner: Arc<str>,
    pub(super) id: Arc<str>,
}

#[derive(Debug, Default)]
pub(super) struct Wanted {
    sessions: BTreeMap<SessionKey, (Name, SessionConfig)>,
    /// Those that are wanted no longer and still tell their peers so.
    leaving: BTreeMap<SessionKey, Name>,
}

impl Wanted {
    /// Replaces all that an owner wants; what can't be had is refused.
    pub(super) fn replace(&mut self, owner: &str, wanted: &[BfdSessionConfig]) -> Vec<BfdRefusal> {
        let owner: Arc<str> = owner.into();
        let (gone, kept) =
            std::mem::take(&mut self.sessions).into_iter().partition(|(_, (name, _))| name.owner == owner);
        self.sessions = kept;
        let gone: BTreeMap<SessionKey, (Name, SessionConfig)> = gone;
        self.leaving.extend(gone.into_iter().map(|(key, (name, _))| (key, name)));
        let mut refused = Vec::new();
        for session in wanted {
            if let Err(reason) = self.add(&owner, session) {
                tracing::warn!(owner = %owner, session = %session.id, "refused: {reason}");
                refused.push(BfdRefusal { id: session.id.clone(), reason });
            }
        }
        refused
    }

    fn add(&mut self, owner: &Arc<str>, session: &BfdSessionConfig) -> Result<(), String> {
        let (key, config) = parse(session);
        config.check(&key).map_err(|problem| problem.to_string())?;
        if let Some((other, _)) = self.sessions.get(&key) {
            return Err(format!("'{}' of {} has a session with {key} already", other.id, other.owner));
        }
        if self.sessions.values().any(|(other, _)| other.owner == *owner && *other.id == *session.id) {
            return Err("another session of the set has the same id".to_owned());
        }
        self.leaving.remove(&key);
        self.sessions.insert(key, (Name { owner: owner.clone(), id: session.id.as_str().into() }, config));
        Ok(())
    }

    /// What all owners want together.
    pub(super) fn all(&self) -> BTreeMap<SessionKey, SessionConfig> {
        self.sessions.iter().map(|(key, (_, config))| (key.clone(), config.clone())).collect()
    }

    /// Whose session this is, and whether it leaves.
    pub(super) fn name(&self, key: &SessionKey) -> Option<(&Name, bool)> {
        let wanted = self.sessions.get(key).map(|(name, _)| (name, false));
        wanted.or_else(|| self.leaving.get(key).map(|name| (name, true)))
    }

    /// Forgets a session that has left.
    pub(super) fn left(&mut self, key: &SessionKey) {
        self.leaving.remove(key);
    }
}

fn parse(session: &BfdSessionConfig) -> (SessionKey, SessionConfig) {
    let key = SessionKey {
        remote: session.remote,
        multihop: session.multihop,
        interface: session.interface.as_deref().map(Arc::from),
        local: session.local,
    };
    let config = SessionConfig {
        min_tx: Duration::from_millis(session.min_tx_ms.into()),
        min_rx: Duration::from_millis(session.min_rx_ms.into()),
        multiplier: session.multiplier,
        min_ttl: session.min_ttl.unwrap_or(0),
        passive: session.passive,
    };
    (key, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, remote: &str) -> BfdSessionConfig {
        BfdSessionConfig {
            id: id.to_owned(),
            remote: remote.parse().expect("an address"),
            local: None,
            interface: None,
            multihop: false,
            min_tx_ms: 100,
            min_rx_ms: 100,
            multiplier: 3,
            min_ttl: None,
            passive: false,
        }
    }

    fn ids(wanted: &Wanted) -> Vec<String> {
        let name = |key: &SessionKey| wanted.name(key).map(|(name, _)| format!("{}/{}", name.owner, name.id));
        wanted.all().keys().filter_map(name).collect()
    }

    #[test]
    fn a_set_replaces_its_owners_and_nobody_elses() {
        let mut wanted = Wanted::default();
        assert!(wanted.replace("node", &[session("a", "192.0.2.1"), session("b", "192.0.2.2")]).is_empty());
        assert!(wanted.replace("lab", &[session("a", "192.0.2.3")]).is_empty());
        assert!(wanted.replace("node", &[session("b", "192.0.2.2")]).is_empty());
        assert_eq!(ids(&wanted), ["node/b", "lab/a"]);
        let gone = parse(&session("a", "192.0.2.1")).0;
        assert!(wanted.name(&gone).is_some_and(|(name, leaving)| leaving && &*name.id == "a"));
        wanted.left(&gone);
        assert_eq!(wanted.name(&gone), None);
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason_and_the_rest_is_applied() {
        let mut wanted = Wanted::default();
        wanted.replace("lab", &[session("x", "192.0.2.9")]);
        let fast = BfdSessionConfig { min_tx_ms: 1, ..session("fast", "192.0.2.4") };
        let set = [
            session("a", "192.0.2.1"),
            session("a", "192.0.2.2"),
            session("twin", "192.0.2.1"),
            session("theirs", "192.0.2.9"),
            fast,
            session("local", "fe80::1"),
        ];
        let refused = wanted.replace("node", &set);
        let reasons: Vec<(&str, &str)> =
            refused.iter().map(|refusal| (refusal.id.as_str(), refusal.reason.as_str())).collect();
        assert_eq!(reasons.len(), 5, "{reasons:?}");
        for ((id, reason), (wanted_id, part)) in reasons.into_iter().zip([
            ("a", "same id"),
            ("twin", "'a' of node has a session with 192.0.2.1"),
            ("theirs", "'x' of lab"),
            ("fast", "10ms to 60s"),
            ("local", "interface"),
        ]) {
            assert!(id == wanted_id && reason.contains(part), "{id}: {reason}");
        }
        assert_eq!(ids(&wanted), ["node/a", "lab/x"]);
    }
}
