//! A store in memory that yields before every call, so that calls interleave, and fails at random.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use margay_datastore::{Datastore, KeyValue, Listing, Revision, StoreError, WatchStream};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::faulty::away;

type Write = Box<dyn FnOnce(&mut State) -> Result<Revision, StoreError> + Send>;

/// How often, of 100 calls, a read fails, a write is lost, applied without an answer, or delayed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) read_fails: u32,
    pub(crate) lost: u32,
    pub(crate) applied: u32,
    pub(crate) delayed: u32,
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, (Vec<u8>, Revision)>,
    revision: i64,
    weather: Weather,
    delayed: Vec<Write>,
}

pub(crate) struct Memory {
    state: Mutex<State>,
    rng: Mutex<SmallRng>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl State {
    fn next(&mut self) -> Revision {
        self.revision += 1;
        Revision::new(self.revision)
    }

    fn expect(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        match (self.items.get(key), expected) {
            (None, _) => Err(StoreError::NotFound { key: key.into() }),
            (Some((_, revision)), Some(expected)) if *revision != expected => {
                Err(StoreError::Conflict { key: key.into() })
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, key: &str, value: Vec<u8>) -> Revision {
        let revision = self.next();
        self.items.insert(key.to_owned(), (value, revision));
        revision
    }
}

impl Memory {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: Mutex::default(), rng: Mutex::new(SmallRng::seed_from_u64(seed)) }
    }

    pub(crate) fn turn(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }

    /// Lets some of the delayed writes arrive, or all.
    pub(crate) fn deliver(&self, all: bool) {
        let mut state = self.state.lock().unwrap();
        for write in std::mem::take(&mut state.delayed) {
            if all || self.dice(100) < 30 {
                let _ = write(&mut state);
            } else {
                state.delayed.push(write);
            }
        }
    }

    fn dice(&self, sides: u32) -> u32 {
        self.rng.lock().unwrap().random_range(0..sides)
    }

    async fn turn_of_others(&self) {
        for _ in 0..self.dice(4) {
            tokio::task::yield_now().await;
        }
        self.deliver(false);
    }

    async fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        self.turn_of_others().await;
        let state = self.state.lock().unwrap();
        if self.dice(100) < state.weather.read_fails { Err(away()) } else { Ok(read(&state)) }
    }

    async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        self.turn_of_others().await;
        let mut state = self.state.lock().unwrap();
        let (weather, dice) = (state.weather, self.dice(100));
        if dice < weather.lost {
            return Err(away());
        }
        if dice < weather.lost + weather.applied {
            let _ = write(&mut state);
            return Err(away());
        }
        if dice < weather.lost + weather.applied + weather.delayed {
            state.delayed.push(write);
            return Err(away());
        }
        write(&mut state)
    }
}

#[async_trait]
impl Datastore for Memory {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        self.read(|state| {
            let (value, revision) = state.items.get(key)?;
            Some(KeyValue { key: key.to_owned(), value: value.clone(), revision: *revision })
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.read(|state| {
            let below = state.items.iter().filter(|(key, _)| key.starts_with(prefix));
            let item = |(key, (value, revision)): (&String, &(Vec<u8>, Revision))| KeyValue {
                key: key.clone(),
                value: value.clone(),
                revision: *revision,
            };
            Listing { items: below.map(item).collect(), revision: Revision::new(state.revision) }
        })
        .await
    }

    async fn create(&self, key: &str, value: &[u8]) -> Result<Revision, StoreError> {
        let (key, value) = (key.to_owned(), value.to_vec());
        let create = move |state: &mut State| {
            if state.items.contains_key(&key) {
                return Err(StoreError::AlreadyExists { key });
            }
            Ok(state.put(&key, value))
        };
        self.write(Box::new(create)).await
    }

    async fn update(&self, key: &str, value: &[u8], expected: Revision) -> Result<Revision, StoreError> {
        let (key, value) = (key.to_owned(), value.to_vec());
        let update = move |state: &mut State| {
            state.expect(&key, Some(expected))?;
            Ok(state.put(&key, value))
        };
        self.write(Box::new(update)).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        let key = key.to_owned();
        let delete = move |state: &mut State| {
            state.expect(&key, expected)?;
            state.items.remove(&key);
            Ok(state.next())
        };
        self.write(Box::new(delete)).await.map(drop)
    }

    async fn watch(&self, _prefix: &str, _from: Revision) -> Result<WatchStream, StoreError> {
        Err(away())
    }
}

impl Weather {
    /// Tells whether nothing fails.
    pub(crate) fn is_fair(self) -> bool {
        self.read_fails + self.lost + self.applied + self.delayed == 0
    }
}
