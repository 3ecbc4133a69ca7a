//! Serving assignments: handles counted up all at once, then one write of the block.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use margay_datastore::StoreError;
use margay_ipam_core::{Handle, keys};
use margay_net::{Cidr, Family};

use crate::claim::Source;
use crate::store::{MAX_ATTEMPTS, Versioned, contention};
use crate::{AssignRequest, Assignment, IpamClient, IpamError, Owned};

/// A request, the pools that it may use by family, and how far it has come.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: AssignRequest,
    pub(crate) sources: BTreeMap<Family, Vec<Source>>,
    pub(crate) result: Result<Vec<Assignment>, IpamError>,
}

impl Job {
    fn waits_for(&self, family: Family) -> bool {
        let is_served = |got: &Vec<Assignment>| got.iter().any(|got| got.block.family() == family);
        self.sources.contains_key(&family) && self.result.as_ref().is_ok_and(|got| !is_served(got))
    }
}

impl IpamClient {
    /// Serves requests of different handles, each in its `result`.
    pub(crate) async fn assign_all(&self, jobs: &mut [Job], owned: &mut Owned) {
        for family in Family::ALL {
            // Requests that may use the same pools are served by the same blocks.
            let mut groups: BTreeMap<Vec<Source>, Vec<usize>> = BTreeMap::new();
            for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.waits_for(family)) {
                groups.entry(job.sources[&family].clone()).or_default().push(index);
            }
            for (sources, mut waiting) in groups {
                let mut idle_rounds = 0;
                while !waiting.is_empty() {
                    let before = waiting.len();
                    let mut round = self.assign_from_a_block(jobs, &waiting, &sources, owned).await;
                    waiting.retain(|index| jobs[*index].waits_for(family));
                    idle_rounds = if waiting.len() < before { 0 } else { idle_rounds + 1 };
                    if round.is_ok() && idle_rounds == MAX_ATTEMPTS {
                        round = Err(contention("the last free addresses".to_owned()));
                    }
                    if let Err(error) = round {
                        waiting.drain(..).for_each(|index| jobs[index].result = Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Finds a block with space and serves as many of `waiting` from it as it has addresses, with one write.
    async fn assign_from_a_block(
        &self,
        jobs: &mut [Job],
        waiting: &[usize],
        sources: &[Source],
        owned: &mut Owned,
    ) -> Result<(), IpamError> {
        let mut held = self.block_with_space(sources, owned).await?;
        let cidr = held.block.cidr;
        let served = &waiting[..waiting.len().min(held.block.free())];
        let mut counted = self.count_up(jobs, served, cidr, owned).await;
        for _ in 0..MAX_ATTEMPTS {
            // A write that fails may have been applied: what is known of the block ends here.
            owned.remove(&cidr);
            let mut block = held.block.clone();
            let assign =
                |index: &usize| block.assign(&jobs[*index].request.handle, &jobs[*index].request.attributes, |_| true);
            let addresses: Vec<_> = counted.iter().map_while(assign).collect();
            if addresses.is_empty() {
                break;
            }
            held.block = block;
            if let Some(revision) = self.write_block(&held).await? {
                let borrowed = !self.owns(&held);
                for (index, address) in counted.drain(..addresses.len()).zip(addresses) {
                    if let Ok(got) = &mut jobs[index].result {
                        got.push(Assignment { address, block: cidr, borrowed });
                    }
                }
                if !borrowed {
                    owned.insert(cidr, Versioned { block: held.block, revision });
                }
                break;
            }
            match self.read_block(cidr).await? {
                Some(fresh) => held = fresh,
                None => break,
            }
        }
        self.count_down(jobs, &counted, cidr).await;
        Ok(())
    }

    /// Counts handles up before their block is written: one create for a new handle. Those that fail are marked, the
    /// others returned.
    async fn count_up(&self, jobs: &mut [Job], indexes: &[usize], cidr: Cidr, owned: &mut Owned) -> Vec<usize> {
        let mut handle = Handle::default();
        handle.increment(cidr, 1);
        let value = handle.encode();
        let got_nothing = |index: &usize| jobs[*index].result.as_ref().is_ok_and(Vec::is_empty);
        let (new, mut there): (Vec<usize>, Vec<usize>) = indexes.iter().copied().partition(got_nothing);
        let create = async |index: &usize| self.store.create(&keys::handle(&jobs[*index].request.handle), &value).await;
        let created = join_all(new.iter().map(create)).await;
        let (mut counted, mut earlier) = (Vec::new(), Vec::new());
        for (index, created) in new.into_iter().zip(created) {
            match created {
                Ok(_) => counted.push(index),
                // It is left from an earlier request.
                Err(StoreError::AlreadyExists { .. }) => earlier.push(index),
                Err(error) => jobs[index].result = Err(error.into()),
            }
        }
        let handles: Vec<String> = earlier.iter().map(|index| jobs[*index].request.handle.clone()).collect();
        for (index, released) in earlier.into_iter().zip(self.release_all(&handles, owned).await) {
            match released {
                Ok(_) => there.push(index),
                Err(error) => jobs[index].result = Err(error),
            }
        }
        let increment =
            |index: &usize| self.change_handle(&jobs[*index].request.handle, |handle| handle.increment(cidr, 1));
        let incremented = join_all(there.iter().map(increment)).await;
        for (index, incremented) in there.into_iter().zip(incremented) {
            match incremented {
                Ok(()) => counted.push(index),
                Err(error) => jobs[index].result = Err(error),
            }
        }
        counted
    }

    /// Takes back counts that came to nothing. One that stays is taken back with the handle's next request.
    async fn count_down(&self, jobs: &[Job], indexes: &[usize], cidr: Cidr) {
        let decrement = async |index: &usize| {
            let id = &jobs[*index].request.handle;
            if let Err(error) = self.change_handle(id, |handle| handle.decrement(cidr, 1)).await {
                tracing::warn!(handle = id, %error, "could not count a handle down");
            }
        };
        join_all(indexes.iter().map(decrement)).await;
    }
}
