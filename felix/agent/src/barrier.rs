use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How long a trouble that may pass by itself is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long work is waited for that goes on.
const LONGEST: Duration = Duration::from_secs(10);

/// Somebody waits for the kernel to have what was sent.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) scope: Scope,
    begin: Instant,
    reply: oneshot::Sender<Result<(), String>>,
}

#[derive(Debug)]
pub(crate) enum Scope {
    /// Everything; of endpoints those which were sent since the last barrier.
    All {
        endpoints: BTreeSet<String>,
    },
    Endpoint(String),
}

impl Barrier {
    pub(crate) fn new(scope: Scope, reply: oneshot::Sender<Result<(), String>>) -> Barrier {
        Barrier { scope, begin: Instant::now(), reply }
    }

    /// When it is to be looked at again, whatever happens.
    pub(crate) fn deadline(&self) -> Instant {
        let patience = if self.begin.elapsed() < PATIENCE { PATIENCE } else { LONGEST };
        self.begin + patience
    }

    /// What to answer at this moment, if anything. `done`: all is in the kernel, or it is being worked on, or what stands
    /// against it.
    pub(crate) fn verdict(&self, done: Result<bool, String>) -> Option<Result<(), String>> {
        let waited = self.begin.elapsed();
        match done {
            Ok(true) => Some(Ok(())),
            Err(reason) if waited >= PATIENCE => Some(Err(reason)),
            Ok(false) if waited >= LONGEST => Some(Err("the kernel is still being changed".to_owned())),
            _ => None,
        }
    }

    pub(crate) fn answer(self, answer: Result<(), String>) {
        // Who doesn't wait any longer doesn't need the answer.
        let _ = self.reply.send(answer);
    }
}
