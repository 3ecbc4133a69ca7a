//! Writes the conditions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use margay_api::{CONDITION_PREFIX, Condition, ConditionKey};
use margay_datastore::{Datastore, KeyValue, PrefixEvent, Revision, StoreError};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{mpsc, oneshot, watch};

use super::schedule::Schedule;
use super::writes::{self, Said, Write};
use super::{Finding, Findings, is_gone};
use crate::actor::Message;

/// How soon things are done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// The longest that a node waits with what others may say as well.
    pub(crate) spread: Duration,
    /// Between two looks for what nobody is left to take back. It must be so at two of them.
    pub(crate) look: Duration,
}

impl Pace {
    /// Of 1,000 nodes that meet the same, some tens write before they hear of the first.
    pub(crate) const NODE: Pace = Pace { spread: Duration::from_secs(2), look: Duration::from_secs(30) };
}

/// Says what this node finds, as long as the daemon runs.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) node: Arc<str>,
    pub(crate) store: Arc<dyn Datastore>,
    /// None before the daemon knows all that it needs: until then nothing is taken back.
    pub(crate) findings: watch::Receiver<Option<Arc<Findings>>>,
    pub(crate) actor: mpsc::Sender<Message>,
    pub(crate) pace: Pace,
}

/// What the reporter knows.
struct Board {
    /// None before the first listing.
    said: Option<BTreeMap<ConditionKey, Said>>,
    /// What the last look found to be gone, with the node that said it, and what the one before found, too.
    suspects: BTreeSet<(ConditionKey, Option<String>)>,
    gone: BTreeSet<ConditionKey>,
    schedule: Schedule,
    random: SmallRng,
}

impl Reporter {
    pub(crate) async fn run(mut self) {
        let mut events = margay_datastore::watch_prefix(self.store.clone(), CONDITION_PREFIX);
        let mut looks = tokio::time::interval(self.pace.look);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut board = Board {
            said: None,
            suspects: BTreeSet::new(),
            gone: BTreeSet::new(),
            schedule: Schedule::default(),
            random: SmallRng::from_os_rng(),
        };
        let mut open = true;
        loop {
            let findings = self.findings.borrow_and_update().clone();
            if let Some(findings) = &findings {
                board.compare(&self.node, findings, self.pace.spread);
            }
            let next = board.schedule.next();
            let due = async {
                match next {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv(), if open => match event {
                    Some(event) => board.take(event),
                    None => open = false,
                },
                changed = self.findings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = looks.tick(), if findings.is_some() => self.look(&mut board).await,
                () = due => self.write(&mut board).await,
            }
        }
    }

    /// Asks what nobody is left to take back.
    async fn look(&self, board: &mut Board) {
        let said = board.said.iter().flatten();
        let asked: Vec<_> = said.map(|(key, said)| (key.clone(), said.node().map(str::to_owned))).collect();
        let before = std::mem::take(&mut board.suspects);
        board.gone.clear();
        if asked.is_empty() {
            return;
        }
        let (answer, answered) = oneshot::channel();
        let question = Message::Ask(Box::new(move |cluster| {
            let gone = asked.into_iter().filter(|(key, node)| is_gone(cluster, key, node.as_deref()));
            // An asker that is gone needs no answer.
            let _ = answer.send(gone.collect());
        }));
        if self.actor.send(question).await.is_err() {
            return;
        }
        board.suspects = answered.await.unwrap_or_default();
        // No order of watches is promised: what is not there may be just not known yet.
        board.gone = board.suspects.intersection(&before).map(|(key, _)| key.clone()).collect();
    }

    /// Does the writes that are due. One that lost against another node's is one that the watch makes unnecessary soon.
    async fn write(&self, board: &mut Board) {
        for (key, write) in board.schedule.due(Instant::now()) {
            match self.write_one(&key, &write).await {
                Ok(said) => {
                    tracing::debug!(%key, ?write, "the status of an object is written");
                    board.schedule.done(&key);
                    board.hear(&key, said);
                }
                Err(error) => {
                    tracing::debug!(%key, %error, "the status of an object is not written");
                    board.schedule.failed(&key, Instant::now(), &mut board.random);
                }
            }
        }
    }

    /// The condition as it is after the write.
    async fn write_one(&self, key: &ConditionKey, write: &Write) -> Result<Option<Said>, StoreError> {
        let (path, store) = (key.to_string(), &self.store);
        match write {
            Write::Say(finding) => {
                let (condition, value) = self.value(key, finding, None);
                Ok(Some(said(condition, store.create(&path, &value).await?)))
            }
            Write::Correct { finding, since, revision } => {
                let (condition, value) = self.value(key, finding, since.clone());
                Ok(Some(said(condition, store.update(&path, &value, *revision).await?)))
            }
            Write::Withdraw(revision) => store.delete(&path, Some(*revision)).await.map(|()| None),
        }
    }

    fn value(&self, key: &ConditionKey, finding: &Finding, since: Option<String>) -> (Condition, Vec<u8>) {
        let since = since.unwrap_or_else(|| humantime::format_rfc3339_seconds(SystemTime::now()).to_string());
        let condition = writes::condition(key, finding, &self.node, since);
        let value = serde_json::json!(condition).to_string().into_bytes();
        (condition, value)
    }
}

fn said(condition: Condition, revision: Revision) -> Said {
    Said { revision, condition: Some(condition) }
}

impl Board {
    /// Plans the writes, once it is known what is said.
    fn compare(&mut self, node: &str, findings: &Findings, spread: Duration) {
        let Some(said) = &self.said else { return };
        let writes = writes::writes(node, findings, said, &self.gone);
        self.schedule.set(writes, said, node, spread, Instant::now(), &mut self.random);
    }

    fn take(&mut self, event: PrefixEvent) {
        match event {
            PrefixEvent::Snapshot(items) => {
                self.said.get_or_insert_default();
                items.iter().for_each(|item| self.take_value(item));
            }
            PrefixEvent::Put(item) => self.take_value(&item),
            PrefixEvent::Delete { key, .. } => {
                if let Some(key) = ConditionKey::parse(&key) {
                    self.hear(&key, None);
                }
            }
            PrefixEvent::InSync | PrefixEvent::Unavailable { .. } | PrefixEvent::Available => {}
        }
    }

    fn take_value(&mut self, item: &KeyValue) {
        let Some(key) = ConditionKey::parse(&item.key) else { return };
        let condition = serde_json::from_slice(&item.value).ok();
        self.hear(&key, Some(Said { revision: item.revision, condition }));
    }

    /// Takes over what is said under a key.
    fn hear(&mut self, key: &ConditionKey, heard: Option<Said>) {
        let said = self.said.get_or_insert_default();
        let before = said.get(key).and_then(Said::node);
        if before != heard.as_ref().and_then(Said::node) {
            self.gone.remove(key);
        }
        match heard {
            Some(heard) => drop(said.insert(key.clone(), heard)),
            None => drop(said.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests;
