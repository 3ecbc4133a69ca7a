//! A store that counts writes, and fails one of them as a broken connection or a crash would.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use margay_datastore::{Datastore, KeyValue, Listing, Revision, StoreError, WatchStream};

/// What happens to the write that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never reaches the store.
    Lost,
    /// It is applied, and the answer is lost.
    Applied,
    /// It is under way until [`Faulty::deliver`].
    Delayed,
}

/// Which write fails, counted from 1, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) fate: Fate,
    /// Everything afterwards fails too, as for a process that crashed.
    pub(crate) dies: bool,
}

#[derive(Debug, Clone)]
enum Write {
    Create(String, Vec<u8>),
    Update(String, Vec<u8>, Revision),
    Delete(String, Option<Revision>),
}

#[derive(Debug)]
pub(crate) struct Faulty {
    store: Arc<dyn Datastore>,
    fault: Mutex<Option<Fault>>,
    writes: AtomicUsize,
    block_updates: AtomicUsize,
    delayed: Mutex<Vec<Write>>,
}

impl Faulty {
    pub(crate) fn new(store: Arc<dyn Datastore>, fault: Option<Fault>) -> Arc<Self> {
        let (writes, block_updates) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { store, fault: Mutex::new(fault), writes, block_updates, delayed: Mutex::default() })
    }

    /// Counts writes from 0 again, the next fault among them.
    pub(crate) fn restart(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
        self.writes.store(0, Ordering::SeqCst);
        self.block_updates.store(0, Ordering::SeqCst);
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub(crate) fn block_updates(&self) -> usize {
        self.block_updates.load(Ordering::SeqCst)
    }

    /// Lets delayed writes arrive.
    pub(crate) async fn deliver(&self) {
        let delayed = std::mem::take(&mut *self.delayed.lock().unwrap());
        for write in delayed {
            let _ = self.apply(write).await;
        }
    }

    async fn apply(&self, write: Write) -> Result<Revision, StoreError> {
        match write {
            Write::Create(key, value) => self.store.create(&key, &value).await,
            Write::Update(key, value, expected) => self.store.update(&key, &value, expected).await,
            Write::Delete(key, expected) => self.store.delete(&key, expected).await.map(|()| Revision::ZERO),
        }
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        if matches!(&write, Write::Update(key, ..) if key.contains("/assignment/")) {
            self.block_updates.fetch_add(1, Ordering::SeqCst);
        }
        let Some(fault) = *self.fault.lock().unwrap() else { return self.apply(write).await };
        if number == fault.at {
            match fault.fate {
                Fate::Lost => {}
                Fate::Applied => drop(self.apply(write).await),
                Fate::Delayed => self.delayed.lock().unwrap().push(write),
            }
            return Err(away());
        }
        self.alive()?;
        self.apply(write).await
    }

    fn alive(&self) -> Result<(), StoreError> {
        let fault = *self.fault.lock().unwrap();
        if fault.is_some_and(|fault| fault.dies && self.writes() >= fault.at) { Err(away()) } else { Ok(()) }
    }
}

pub(crate) fn away() -> StoreError {
    StoreError::Unavailable { what: "a fault of the test".into(), advice: "none".into() }
}

#[async_trait]
impl Datastore for Faulty {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.alive()?;
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.alive()?;
        self.store.list(prefix).await
    }

    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        self.write(Write::Create(key.into(), value.into())).await
    }

    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        self.write(Write::Update(key.into(), value.into(), expected)).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        self.write(Write::Delete(key.into(), expected)).await.map(drop)
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.store.watch(prefix, from).await
    }
}
