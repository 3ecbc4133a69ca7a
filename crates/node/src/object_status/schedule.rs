//! When each write is due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use margay_api::ConditionKey;
use rand::Rng;

use super::writes::{Said, Write};

/// The first pause after a write that failed, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The writes that are to be done, each with its time.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeMap<ConditionKey, Entry>);

#[derive(Debug)]
struct Entry {
    write: Write,
    due: Instant,
    pause: Duration,
}

impl Schedule {
    /// Takes over what is to be written. What was to be written already keeps its time. What is new waits where other
    /// nodes have the same to write: between an eighth of `spread` and the whole of it, so that the first is heard of
    /// before most of the others write.
    pub(super) fn set(
        &mut self,
        writes: BTreeMap<ConditionKey, Write>,
        said: &BTreeMap<ConditionKey, Said>,
        node: &str,
        spread: Duration,
        now: Instant,
        random: &mut impl Rng,
    ) {
        let mut known = std::mem::take(&mut self.0);
        for (key, write) in writes {
            let entry = match known.remove(&key) {
                // A node corrects itself at once, even if it waited to speak.
                Some(entry) if entry.write.is_say() == write.is_say() => Entry { write, ..entry },
                _ => {
                    let alone = said.get(&key).is_some_and(|said| said.node() == Some(node));
                    let wait = if alone { Duration::ZERO } else { spread.mul_f64(random.random_range(0.125..=1.0)) };
                    Entry { write, due: now + wait, pause: FIRST_PAUSE }
                }
            };
            self.0.insert(key, entry);
        }
    }

    /// When the next write is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|entry| entry.due).min()
    }

    /// The writes that are due.
    pub(super) fn due(&self, now: Instant) -> Vec<(ConditionKey, Write)> {
        let due = self.0.iter().filter(|(_, entry)| entry.due <= now);
        due.map(|(key, entry)| (key.clone(), entry.write.clone())).collect()
    }

    /// Notes that a write is done.
    pub(super) fn done(&mut self, key: &ConditionKey) {
        self.0.remove(key);
    }

    /// Notes that a write failed: it is due again after a pause, each longer than the one before and none quite like
    /// another node's.
    pub(super) fn failed(&mut self, key: &ConditionKey, now: Instant, random: &mut impl Rng) {
        if let Some(entry) = self.0.get_mut(key) {
            entry.due = now + entry.pause.mul_f64(random.random_range(0.5..=1.0));
            entry.pause = (entry.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Write {
    fn is_say(&self) -> bool {
        matches!(self, Write::Say(_))
    }
}

#[cfg(test)]
mod tests {
    use margay_datastore::Revision;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::super::Finding;
    use super::super::writes::condition;
    use super::*;

    const SPREAD: Duration = Duration::from_secs(2);

    fn key() -> ConditionKey {
        ConditionKey { plural: "bgppeers", name: "tor".to_owned(), reason: "FilterNotFound".to_owned() }
    }

    fn finding() -> Finding {
        Finding { kind: "ResolvedRefs", message: "missing".to_owned() }
    }

    fn set(schedule: &mut Schedule, write: Option<Write>, by: Option<&str>, now: Instant, seed: u64) {
        let condition = |by: &str| condition(&key(), &finding(), by, String::new());
        let said = by.map(|by| (key(), Said { revision: Revision::new(1), condition: Some(condition(by)) }));
        let writes = write.map(|write| (key(), write)).into_iter().collect();
        let random = &mut SmallRng::seed_from_u64(seed);
        schedule.set(writes, &said.into_iter().collect(), "n1", SPREAD, now, random);
    }

    #[test]
    fn what_others_may_say_too_waits_and_what_is_this_nodes_own_does_not() {
        let now = Instant::now();
        for seed in 0..100 {
            let mut schedule = Schedule::default();
            set(&mut schedule, Some(Write::Say(finding())), None, now, seed);
            let due = schedule.next().expect("a write") - now;
            assert!(due >= SPREAD / 8 && due <= SPREAD, "{due:?}");
            assert!(schedule.due(now).is_empty());
            // Another look does not move it.
            set(&mut schedule, Some(Write::Say(finding())), None, now + SPREAD / 16, seed + 1);
            assert_eq!(schedule.next(), Some(now + due));
            assert_eq!(schedule.due(now + due).len(), 1);
            // Others said it.
            set(&mut schedule, None, Some("n2"), now, seed);
            assert_eq!(schedule.next(), None);
            // The one that said it is gone.
            set(&mut schedule, Some(Write::Withdraw(Revision::new(1))), Some("n2"), now, seed);
            assert!(schedule.next().is_some_and(|due| due >= now + SPREAD / 8));
        }
        let mut schedule = Schedule::default();
        set(&mut schedule, Some(Write::Say(finding())), None, now, 1);
        set(&mut schedule, Some(Write::Withdraw(Revision::new(1))), Some("n1"), now, 1);
        assert_eq!(schedule.next(), Some(now));
    }

    #[test]
    fn what_fails_is_tried_again_after_longer_and_longer_pauses() {
        let (mut now, random) = (Instant::now(), &mut SmallRng::seed_from_u64(7));
        let mut schedule = Schedule::default();
        set(&mut schedule, Some(Write::Withdraw(Revision::new(1))), Some("n1"), now, 1);
        for longest in [200, 400, 800, 1600, 3200, 5000, 5000] {
            let longest = Duration::from_millis(longest);
            schedule.failed(&key(), now, random);
            let pause = schedule.next().expect("a write") - now;
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
            now += pause;
            set(&mut schedule, Some(Write::Withdraw(Revision::new(1))), Some("n1"), now, 1);
        }
        schedule.done(&key());
        assert_eq!(schedule.next(), None);
    }
}
