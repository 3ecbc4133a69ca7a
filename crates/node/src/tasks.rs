//! The daemon's long-lived tasks: none may end while the others go on.

use std::collections::BTreeMap;

use tokio::task::{Id, JoinSet};

/// Tasks by name.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: JoinSet<()>,
    names: BTreeMap<Id, String>,
}

impl Tasks {
    pub(crate) fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(task);
        self.names.insert(handle.id(), name.into());
    }

    /// Waits until one ends, by a panic or by itself, and says which and how.
    pub(crate) async fn first_end(&mut self) -> String {
        let Some(ended) = self.running.join_next_with_id().await else { return std::future::pending().await };
        let name = |id: Id| self.names.get(&id).map_or("a task", String::as_str);
        match ended {
            Ok((id, ())) => format!("{} ended", name(id)),
            Err(error) => format!("{} ended: {error}", name(error.id())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("the one that waits", std::future::pending());
        tasks.spawn("the one that fails", async { panic!("a bug") });
        let said = tasks.first_end().await;
        assert!(said.starts_with("the one that fails ended") && said.contains("a bug"), "{said}");
    }
}
