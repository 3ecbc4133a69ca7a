//! Requests that come at once are served together: each puts itself on the list and starts a task that serves all
//! that are there when its turn comes. A task of its own, so that a caller that goes away leaves nobody unserved.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::runtime::Handle as Runtime;
use tokio::sync::oneshot;

use crate::serve::Job;
use crate::{Assignment, IpamClient, IpamError, Owned};

type Answer<T> = oneshot::Sender<Result<T, IpamError>>;

/// A request that waits for its turn.
#[derive(Debug)]
pub(crate) enum Waiting {
    Assign(Job, Answer<Vec<Assignment>>),
    Release(String, Answer<Vec<IpAddr>>),
}

impl Waiting {
    fn handle(&self) -> &str {
        match self {
            Waiting::Assign(job, _) => &job.request.handle,
            Waiting::Release(handle, _) => handle,
        }
    }

    fn fail(self, error: IpamError) {
        // A caller that is gone needs no answer.
        let _ = match self {
            Waiting::Assign(_, answer) => answer.send(Err(error)).is_ok(),
            Waiting::Release(_, answer) => answer.send(Err(error)).is_ok(),
        };
    }
}

/// An assignment whose caller may go away after the answer was sent and before it was taken.
struct Expected<'a> {
    client: &'a IpamClient,
    handle: String,
    answered: oneshot::Receiver<Result<Vec<Assignment>, IpamError>>,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        // From here on whoever serves finds that nobody waits.
        self.answered.close();
        if let Ok(Ok(_)) = self.answered.try_recv()
            && let Ok(runtime) = Runtime::try_current()
        {
            let (answer, _) = oneshot::channel();
            self.client.enqueue(Waiting::Release(std::mem::take(&mut self.handle), answer), &runtime);
        }
    }
}

impl IpamClient {
    /// Has a request served with all that wait, and gives its answer.
    pub(crate) async fn submit<T>(&self, request: impl FnOnce(Answer<T>) -> Waiting) -> Result<T, IpamError> {
        let (answer, answered) = oneshot::channel();
        self.enqueue(request(answer), &Runtime::current());
        answered.await.unwrap_or(Err(IpamError::Interrupted))
    }

    /// Has an assignment served, and freed if nobody takes the answer.
    pub(crate) async fn submit_assignment(&self, job: Job) -> Result<Vec<Assignment>, IpamError> {
        let handle = job.request.handle.clone();
        let (answer, answered) = oneshot::channel();
        self.enqueue(Waiting::Assign(job, answer), &Runtime::current());
        let mut expected = Expected { client: self, handle, answered };
        (&mut expected.answered).await.unwrap_or(Err(IpamError::Interrupted))
    }

    fn enqueue(&self, request: Waiting, runtime: &Runtime) {
        self.lock_waiting().push(request);
        runtime.spawn(Box::pin(self.clone().serve_waiting()));
    }

    fn lock_waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes the first request of each handle; a later one of the same handle is served after it.
    fn take_batch(&self) -> Vec<Waiting> {
        let mut seen = BTreeSet::new();
        let mut waiting = self.lock_waiting();
        let (batch, later) = waiting.drain(..).partition(|request| seen.insert(request.handle().to_owned()));
        *waiting = later;
        batch
    }

    async fn serve_waiting(self) {
        let mut cache = self.owned.lock().await;
        loop {
            let batch = self.take_batch();
            if batch.is_empty() {
                return;
            }
            let owned = match cache.take() {
                Some(owned) => Ok(owned),
                None => self.load_owned().await,
            };
            match owned {
                Ok(owned) => *cache = self.serve(batch, owned).await,
                Err(error) => batch.into_iter().for_each(|request| request.fail(error.clone())),
            }
        }
    }

    /// Serves a batch, and gives back what is known of the node's blocks unless something failed.
    async fn serve(&self, batch: Vec<Waiting>, mut owned: Owned) -> Option<Owned> {
        let (mut handles, mut release_answers) = (Vec::new(), Vec::new());
        let (mut jobs, mut assign_answers) = (Vec::new(), Vec::new());
        for request in batch {
            match request {
                Waiting::Assign(job, answer) => {
                    jobs.push(job);
                    assign_answers.push(answer);
                }
                Waiting::Release(handle, answer) => {
                    handles.push(handle);
                    release_answers.push(answer);
                }
            }
        }
        let released = self.release_all(&handles, &mut owned).await;
        let mut failed = released.iter().any(Result::is_err);
        for (answer, result) in release_answers.into_iter().zip(released) {
            let _ = answer.send(result);
        }
        self.assign_all(&mut jobs, &mut owned).await;
        failed |= jobs.iter().any(|job| job.result.is_err());
        // All or nothing: what a failed request got goes back before its caller hears of the failure.
        let incomplete = jobs.iter().filter(|job| job.result.is_err()).map(|job| job.request.handle.clone()).collect();
        failed |= self.give_back(incomplete, &mut owned).await.is_err();
        let mut unclaimed = Vec::new();
        for (job, answer) in jobs.into_iter().zip(assign_answers) {
            if let Err(Ok(_)) = answer.send(job.result) {
                unclaimed.push(job.request.handle);
            }
        }
        failed |= self.give_back(unclaimed, &mut owned).await.is_err();
        (!failed).then_some(owned)
    }

    /// Frees what nobody will use. What can't be freed stays with its handle, whose next request frees it.
    async fn give_back(&self, handles: Vec<String>, owned: &mut Owned) -> Result<(), IpamError> {
        let mut result = Ok(());
        for (handle, released) in handles.iter().zip(self.release_all(&handles, owned).await) {
            match released {
                Ok(addresses) => tracing::info!(handle, ?addresses, "freed what an assignment without taker held"),
                Err(error) => {
                    tracing::warn!(handle, %error, "could not free what an assignment without taker held");
                    result = Err(error);
                }
            }
        }
        result
    }
}
