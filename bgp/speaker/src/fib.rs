use std::collections::BTreeMap;

use margay_net::{Cidr, FibBatch, FibChange};
use tokio::sync::mpsc;

/// The way of [`FibBatch`]es to felix: straight into its queue while that has room, merged by prefix while not.
///
/// What waits is bounded by the number of prefixes, not of changes: the last change of a prefix stands for those
/// before it, as its serial does for theirs.
#[derive(Debug)]
pub(crate) struct FibQueue {
    felix: mpsc::Sender<FibBatch>,
    waiting: Option<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    serial: u64,
    changes: BTreeMap<Cidr, FibChange>,
    complete: bool,
}

impl FibQueue {
    pub(crate) fn new(felix: mpsc::Sender<FibBatch>) -> FibQueue {
        FibQueue { felix, waiting: None }
    }

    /// Tells whether somebody takes the batch: a receiver that is gone wants no routes, and will not say that it has them.
    pub(crate) fn push(&mut self, batch: FibBatch) -> bool {
        if self.waiting.is_some() {
            self.merge(batch);
            return !self.felix.is_closed();
        }
        match self.felix.try_send(batch) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(batch)) => {
                self.merge(batch);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Hands over what waits once felix has room; cancel safe. Never returns while nothing waits. Returns the serial number
    /// of what nobody takes any more, since the receiver is gone.
    pub(crate) async fn hand_over(&mut self) -> Option<u64> {
        if self.waiting.is_none() {
            return std::future::pending().await;
        }
        let permit = self.felix.reserve().await;
        let waiting = self.waiting.take()?;
        let Ok(permit) = permit else { return Some(waiting.serial) };
        permit.send(FibBatch {
            serial: waiting.serial,
            changes: waiting.changes.into_values().collect(),
            complete: waiting.complete,
        });
        None
    }

    fn merge(&mut self, batch: FibBatch) {
        let waiting = self.waiting.get_or_insert_with(Waiting::default);
        waiting.serial = batch.serial;
        waiting.complete |= batch.complete;
        for change in batch.changes {
            let prefix = match &change {
                FibChange::Set(route) => route.prefix,
                FibChange::Withdraw(prefix) => *prefix,
            };
            waiting.changes.insert(prefix, change);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn withdraw(serial: u64, prefix: &str) -> FibBatch {
        FibBatch { serial, changes: vec![FibChange::Withdraw(prefix.parse().unwrap())], complete: false }
    }

    fn set(serial: u64, prefix: &str) -> FibBatch {
        let route = margay_net::BestRoute {
            prefix: prefix.parse().unwrap(),
            next_hops: Default::default(),
            stale: false,
            discard: false,
        };
        FibBatch { serial, changes: vec![FibChange::Set(route)], complete: false }
    }

    #[tokio::test]
    async fn batches_pass_unmerged_and_in_order_while_felix_has_room() {
        let (sender, mut felix) = mpsc::channel(4);
        let mut queue = FibQueue::new(sender);
        queue.push(set(1, "10.0.0.0/24"));
        queue.push(withdraw(2, "10.0.0.0/24"));
        assert!(!queue.is_waiting());
        assert_eq!(felix.recv().await, Some(set(1, "10.0.0.0/24")));
        assert_eq!(felix.recv().await, Some(withdraw(2, "10.0.0.0/24")));
    }

    #[tokio::test]
    async fn batches_that_find_the_queue_full_are_merged_by_prefix_and_lose_no_completion() {
        let (sender, mut felix) = mpsc::channel(1);
        let mut queue = FibQueue::new(sender);
        queue.push(set(1, "10.0.0.0/24"));
        queue.push(set(2, "10.0.1.0/24"));
        queue.push(FibBatch { serial: 3, changes: vec![], complete: true });
        queue.push(withdraw(4, "10.0.1.0/24"));
        queue.push(set(5, "10.0.2.0/24"));
        assert!(queue.is_waiting());
        assert_eq!(felix.recv().await, Some(set(1, "10.0.0.0/24")));
        queue.hand_over().await;
        assert!(!queue.is_waiting());
        let merged = felix.recv().await.unwrap();
        assert_eq!((merged.serial, merged.complete), (5, true));
        let mut expected = withdraw(4, "10.0.1.0/24").changes;
        expected.extend(set(5, "10.0.2.0/24").changes);
        assert_eq!(merged.changes, expected);
    }

    #[tokio::test]
    async fn a_felix_that_is_gone_leaves_nothing_waiting() {
        let (sender, felix) = mpsc::channel(1);
        let mut queue = FibQueue::new(sender);
        queue.push(set(1, "10.0.0.0/24"));
        queue.push(set(2, "10.0.1.0/24"));
        drop(felix);
        queue.hand_over().await;
        assert!(!queue.is_waiting());
        queue.push(set(3, "10.0.1.0/24"));
        assert!(!queue.is_waiting());
    }
}
