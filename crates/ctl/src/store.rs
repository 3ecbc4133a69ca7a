use std::sync::Arc;

use margay_api::{Spec, Stored, resource_prefix};
use margay_datastore::{Datastore, KeyValue};

use crate::{Connection, Failure};

/// Opens the datastore that the command line or the environment names.
pub(crate) fn open(connection: &Connection) -> Result<Arc<dyn Datastore>, Failure> {
    Ok(margay_datastore::open(connection.datastore.as_deref().unwrap_or_default())?)
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?
        .block_on(future)
}

/// All objects of a kind, and why some could not be read: one that is corrupt doesn't hide the others.
pub(crate) async fn all<S: Spec>(store: &dyn Datastore) -> Result<(Vec<Stored<S>>, Vec<String>), Failure> {
    let listed = store.list(&resource_prefix::<S>()).await?;
    Ok(sorted_out(&listed.items, decode))
}

/// What could be read of stored values, and the reasons of the others, which name their keys.
pub(crate) fn sorted_out<T>(
    stored: &[KeyValue],
    read: impl Fn(&KeyValue) -> Result<T, Failure>,
) -> (Vec<T>, Vec<String>) {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    for stored in stored {
        match read(stored) {
            Ok(value) => good.push(value),
            Err(failure) => problems.push(failure.message().to_owned()),
        }
    }
    (good, problems)
}

/// Fails with the problems, if there are any.
pub(crate) fn fail_with(problems: Vec<String>) -> Result<(), Failure> {
    if problems.is_empty() { Ok(()) } else { Err(Failure::Failed(problems.join("\n"))) }
}

/// A stored object with its revision filled in.
pub(crate) fn decode<S: Spec>(stored: &KeyValue) -> Result<Stored<S>, Failure> {
    let mut object =
        Stored::<S>::decode(&stored.key, &stored.value).map_err(|error| Failure::Failed(error.to_string()))?;
    object.object.metadata.resource_version = Some(stored.revision.to_string());
    Ok(object)
}
