//! One at a time for each name, as many names at once as there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Names = BTreeMap<String, Arc<tokio::sync::Mutex<()>>>;

/// Locks by name; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Locks(Arc<Mutex<Names>>);

/// Names that nobody else has until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    locks: Locks,
    held: Vec<(String, OwnedMutexGuard<()>)>,
}

impl Locks {
    /// Waits until all of the names are free. Everybody takes them in the same order, so that nobody waits in a circle.
    pub(super) async fn lock(&self, names: impl IntoIterator<Item = String>) -> Held {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut held = Held { locks: self.clone(), held: Vec::new() };
        for name in names {
            let lock = self.names().entry(name.clone()).or_default().clone();
            held.held.push((name, lock.lock_owned().await));
        }
        held
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut names = self.locks.names();
        for (name, guard) in self.held.drain(..) {
            drop(guard);
            // Nobody else waits: a waiter has a copy, and copies are made under the lock of the names.
            if names.get(&name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
                names.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_name_is_held_by_one_at_a_time_and_forgotten_after_the_last() {
        let locks = Locks::default();
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|index| {
                let (locks, inside) = (locks.clone(), inside.clone());
                tokio::spawn(async move {
                    let order = if index % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                    let _held = locks.lock(names(&order)).await;
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("alone");
        }
        assert!(locks.names().is_empty());
    }

    #[tokio::test]
    async fn different_names_do_not_wait_for_each_other() {
        let locks = Locks::default();
        let _first = locks.lock(names(&["a"])).await;
        let _second = locks.lock(names(&["b"])).await;
        assert_eq!(locks.names().len(), 2);
    }
}
