use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use margay_felix_core::policy::{PolicyChanges, PolicyTables};
use margay_netlink::NetlinkError;
use margay_netlink::nft::{Batch, Chain, Element, NftError, NftErrorKind, NftSocket, Rule, Set, TableMonitor};

use super::entries::*;
use super::host::HostRules;
use super::skeleton::{ALLOW_RANGE, NEIGHBOUR_DISCOVERY, TABLE, TABLE_COMMENT, chains, sets};

/// How often a resync that another writer disturbed reads again before it writes without that check.
const ATTEMPTS: usize = 8;
/// `NFT_TABLE_F_DORMANT`: the table's chains are not called.
const DORMANT: u32 = 1;

/// Why the kernel's policy could not be changed. The transaction had no effect, unless its answer was lost.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The caller's tables hold a name that no interface can have (1 to 15 bytes, no zero).
    #[error("'{0}' is not the name of an interface: it needs 1 to 15 bytes")]
    InterfaceName(String),
    /// The kernel refused. After an error of [`PolicyDataplane::apply`] its state is not what the caller believes:
    /// resync.
    #[error(transparent)]
    Kernel(#[from] NftError),
}

/// What [`PolicyDataplane::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Entries removed and added; one of an address range counts once.
    pub elements: usize,
    /// From the call to the kernel's commit.
    pub duration: Duration,
}

/// What [`PolicyDataplane::resync`] found wrong, and put right.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Rules or entries written or removed, by object: `table`, `chain forward`, `set allow_one`. Empty: all was well,
    /// and nothing was sent.
    pub repaired: BTreeMap<String, usize>,
    pub duration: Duration,
}

impl Report {
    /// Tells whether the kernel held exactly what it should.
    pub fn is_clean(&self) -> bool {
        self.repaired.is_empty()
    }
}

/// The kernel's copy of [`PolicyTables`]: the table `inet margay` of one network namespace.
///
/// - [`resync`](Self::resync) makes the kernel's state equal to the tables, whatever it was, in one transaction;
/// - [`apply`](Self::apply) does one step from a state that was reached so;
/// - connections that exist keep passing after a change, as Calico's do; only packets that open one are judged.
///
/// Each call blocks until the kernel committed. It works in the namespace that the thread was in at `open`.
#[derive(Debug)]
pub struct PolicyDataplane {
    socket: NftSocket,
    port_ranges: PortRanges,
    host: HostRules,
}

impl PolicyDataplane {
    pub fn open() -> Result<PolicyDataplane, PolicyError> {
        Ok(PolicyDataplane { socket: NftSocket::open()?, port_ranges: PortRanges::new(), host: HostRules::default() })
    }

    /// Watches for changes that others make to the table.
    pub fn monitor(&self) -> Result<TableMonitor, NetlinkError> {
        TableMonitor::open(TABLE, self.socket.port())
    }

    /// Puts the chains in place so that pods without programs are cut off, and keeps the elements that are there.
    ///
    /// A foreign or older table of the name is replaced by an empty one; prefer [`resync`](Self::resync) as soon as
    /// the tables are known, which replaces it by a full one.
    pub fn ensure_skeleton(&mut self) -> Result<Report, PolicyError> {
        self.reconcile(None)
    }

    /// Compares all of the kernel's table with what it should be, and repairs what differs in one transaction.
    ///
    /// What is right stays untouched, and traffic sees the old state or the new one, nothing between.
    pub fn resync(&mut self, tables: &PolicyTables) -> Result<Report, PolicyError> {
        check_names(tables.endpoints.keys().chain(&self.host.bgp_peers))?;
        let mut port_ranges = PortRanges::new();
        let mut wanted = all_entries(tables, &mut port_ranges);
        wanted.extend(self.host.entries());
        let report = self.reconcile(Some(&wanted))?;
        self.port_ranges = port_ranges;
        Ok(report)
    }

    /// Removes and adds what the change says, in one transaction.
    pub fn apply(&mut self, changes: &PolicyChanges) -> Result<Applied, PolicyError> {
        let start = Instant::now();
        check_names(changes.added.endpoints.keys())?;
        let (mut ranges_removed, mut ranges_added) = (PortRanges::new(), PortRanges::new());
        let mut removed = entries(&changes.removed, &mut ranges_removed);
        let mut added = entries(&changes.added, &mut ranges_added);
        let groups = self.changed_groups(&ranges_removed, &ranges_added);
        for (group, after) in &groups {
            let before = self.port_ranges.get(group).map(|ports| port_range_entries(*group, ports));
            removed.entry(ALLOW_RANGE).or_default().extend(before.unwrap_or_default());
            added.entry(ALLOW_RANGE).or_default().extend(port_range_entries(*group, after));
        }

        let elements = self.replace(&removed, &added)?;
        for (group, after) in groups {
            if after.is_empty() {
                self.port_ranges.remove(&group);
            } else {
                self.port_ranges.insert(group, after);
            }
        }
        Ok(Applied { elements, duration: start.elapsed() })
    }

    /// Names what the host asks of the table; the next [`resync`](Self::resync) has it.
    pub fn set_host(&mut self, host: HostRules) {
        self.host = host;
    }

    /// Goes from what the host asked before to this, in one transaction.
    pub fn apply_host(&mut self, host: &HostRules) -> Result<Applied, PolicyError> {
        let start = Instant::now();
        check_names(host.bgp_peers.iter())?;
        let elements = self.replace(&self.host.entries(), &host.entries())?;
        self.host.clone_from(host);
        Ok(Applied { elements, duration: start.elapsed() })
    }

    /// Removes what only `removed` has and adds what only `added` has; returns the number of entries.
    fn replace(&mut self, removed: &Entries, added: &Entries) -> Result<usize, NftError> {
        let mut batch = Batch::new(TABLE);
        let mut count = 0;
        let names: BTreeSet<_> = removed.keys().chain(added.keys()).copied().collect();
        let none = BTreeSet::new();
        for (deletes, verb) in [(true, "delete"), (false, "add")] {
            for set in &names {
                let (old, new) = (removed.get(set).unwrap_or(&none), added.get(set).unwrap_or(&none));
                let changed: Vec<_> = if deletes { old.difference(new) } else { new.difference(old) }.collect();
                count += changed.len();
                tracing::trace!(set, verb, entries = changed.len(), "policy change");
                let elements = elements(set, changed);
                if deletes { batch.delete_elements(set, elements) } else { batch.add_elements(set, elements) }
            }
        }
        self.socket.commit(batch)?;
        Ok(count)
    }

    /// Removes the table. Everything passes then, as on a host without policy.
    pub fn remove_all(&mut self) -> Result<(), PolicyError> {
        self.port_ranges.clear();
        if self.socket.table(TABLE)?.is_some() {
            let mut batch = Batch::new(TABLE);
            batch.delete_table();
            self.socket.commit(batch)?;
        }
        Ok(())
    }

    /// The port ranges of the groups that a change touches, as they are after it.
    fn changed_groups(&self, removed: &PortRanges, added: &PortRanges) -> PortRanges {
        let mut groups = PortRanges::new();
        for group in removed.keys().chain(added.keys()) {
            let mut ports = self.port_ranges.get(group).cloned().unwrap_or_default();
            for range in removed.get(group).into_iter().flatten() {
                ports.remove(range);
            }
            ports.extend(added.get(group).into_iter().flatten());
            groups.insert(*group, ports);
        }
        groups
    }

    fn reconcile(&mut self, wanted: Option<&Entries>) -> Result<Report, PolicyError> {
        let start = Instant::now();
        for attempt in 1.. {
            let generation = self.socket.generation()?;
            let mut batch = Batch::new(TABLE);
            if attempt < ATTEMPTS {
                batch.require_generation(generation);
            }
            let repaired = self.plan(wanted, &mut batch)?;
            match self.socket.commit(batch) {
                Err(NftError { kind: NftErrorKind::GenerationChanged, .. }) if attempt < ATTEMPTS => {}
                result => {
                    result?;
                    return Ok(Report { repaired, duration: start.elapsed() });
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Fills the batch with what makes the kernel's table right, and counts it by object.
    fn plan(&mut self, wanted: Option<&Entries>, batch: &mut Batch) -> Result<BTreeMap<String, usize>, NftError> {
        let mut repaired = BTreeMap::new();
        let Some(info) = self.socket.table(TABLE)? else {
            create(batch, wanted);
            repaired.insert("table".into(), 1);
            return Ok(repaired);
        };
        let there = There::read(&mut self.socket)?;
        if !there.fits() {
            batch.delete_table();
            create(batch, wanted);
            repaired.insert("table".into(), 1);
            return Ok(repaired);
        }
        if info.flags & DORMANT != 0 {
            batch.add_table(Some(TABLE_COMMENT));
            repaired.insert("table".into(), 1);
        }
        for set in sets() {
            let exists = there.sets.contains(&set.name);
            if !exists {
                batch.add_set(&set);
            }
            let constant = constant_entries();
            let none = BTreeSet::new();
            let wanted = match wanted {
                Some(wanted) => wanted.get(set.name.as_str()).unwrap_or(&none),
                None if set.name == NEIGHBOUR_DISCOVERY => &constant,
                None => continue,
            };
            let dumped = if exists { self.socket.elements(TABLE, &set.name)? } else { Vec::new() };
            let count = repair_elements(batch, &set, dumped, wanted) + usize::from(!exists);
            if count > 0 {
                let kind = if set.data.is_some() { "map" } else { "set" };
                repaired.insert(format!("{kind} {}", set.name), count);
            }
        }
        for (chain, rules) in chains() {
            let current = there.rules.get(&chain.name);
            if current.is_some_and(|current| *current == rules) {
                continue;
            }
            batch.add_chain(&chain);
            if current.is_some() {
                batch.flush_chain(&chain.name);
            }
            rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
            repaired.insert(format!("chain {}", chain.name), rules.len());
        }
        Ok(repaired)
    }
}

/// The shape of the table that the kernel holds.
struct There {
    chains: Vec<Chain>,
    sets: BTreeSet<String>,
    /// A set is there that the skeleton doesn't have, or has otherwise.
    foreign_set: bool,
    rules: BTreeMap<String, Vec<Rule>>,
}

impl There {
    fn read(socket: &mut NftSocket) -> Result<There, NftError> {
        let chains = socket.chains(TABLE)?;
        let signatures: BTreeMap<_, _> = sets().into_iter().map(|set| (set.name.clone(), set.signature())).collect();
        let dumped = socket.sets(TABLE)?;
        let foreign_set = dumped.iter().any(|(name, signature)| signatures.get(name) != Some(signature));
        let sets = dumped.into_iter().map(|(name, _)| name).collect();
        let mut rules: BTreeMap<_, Vec<Rule>> = chains.iter().map(|c| (c.name.clone(), Vec::new())).collect();
        for (chain, _, rule) in socket.rules(TABLE)? {
            rules.entry(chain).or_default().push(rule);
        }
        Ok(There { chains, sets, foreign_set, rules })
    }

    /// Tells whether every chain and set is one of the skeleton's; some may be missing.
    fn fits(&self) -> bool {
        let skeleton = chains();
        !self.foreign_set && self.chains.iter().all(|chain| skeleton.iter().any(|(wanted, _)| wanted == chain))
    }
}

fn create(batch: &mut Batch, wanted: Option<&Entries>) {
    batch.add_table(Some(TABLE_COMMENT));
    sets().iter().for_each(|set| batch.add_set(set));
    match wanted {
        Some(wanted) => wanted.iter().for_each(|(set, entries)| batch.add_elements(set, elements(set, entries))),
        None => batch.add_elements(NEIGHBOUR_DISCOVERY, elements(NEIGHBOUR_DISCOVERY, &constant_entries())),
    }
    for (chain, rules) in chains() {
        batch.add_chain(&chain);
        rules.iter().for_each(|rule| batch.add_rule(&chain.name, rule));
    }
}

/// Deletes what is too much and adds what is missing; returns the number of entries.
fn repair_elements(batch: &mut Batch, set: &Set, dumped: Vec<Element>, wanted: &BTreeSet<Entry>) -> usize {
    let name = set.name.as_str();
    let Some(current) = from_elements(name, dumped.clone()) else {
        batch.delete_elements(name, dumped);
        batch.add_elements(name, elements(name, wanted));
        return wanted.len() + 1;
    };
    let extra: Vec<_> = current.difference(wanted).collect();
    let missing: Vec<_> = wanted.difference(&current).collect();
    let count = extra.len() + missing.len();
    batch.delete_elements(name, elements(name, extra));
    batch.add_elements(name, elements(name, missing));
    count
}

fn check_names<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), PolicyError> {
    match names.find(|name| !(1..=15).contains(&name.len()) || name.contains('\0')) {
        Some(name) => Err(PolicyError::InterfaceName(name.clone())),
        None => Ok(()),
    }
}
