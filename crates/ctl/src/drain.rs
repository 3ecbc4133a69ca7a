//! Draining a node of the cluster: the field `drain` of its resource.

use margay_api::kinds::NodeSpec;
use margay_api::resource_key;
use margay_datastore::{Datastore, StoreError};

use crate::{Connection, Failure, store};

/// Sets the field, and says in words what was done.
pub(crate) fn set(connection: &Connection, node: &str, drained: bool) -> Result<String, Failure> {
    let datastore = store::open(connection)?;
    store::block_on(set_in(&*datastore, node, drained))
}

async fn set_in(datastore: &dyn Datastore, node: &str, drained: bool) -> Result<String, Failure> {
    let key = resource_key::<NodeSpec>(None, node);
    let state = if drained { "drained" } else { "not drained" };
    loop {
        let Some(present) = datastore.get(&key).await? else {
            return Err(Failure::Failed(format!("there is no node '{node}'; 'margayctl get nodes' lists them")));
        };
        let mut stored = store::decode::<NodeSpec>(&present)?;
        if stored.object.spec.drain == drained {
            return Ok(format!("Node/{node} is {state} already"));
        }
        stored.object.spec.drain = drained;
        match datastore.update(&key, &stored.encode(), present.revision).await {
            Ok(_) => return Ok(format!("Node/{node} {state}")),
            // Somebody else wrote in between: read again.
            Err(StoreError::Conflict { .. } | StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use margay_api::kinds::Node;

    use super::*;

    #[test]
    fn a_drain_changes_one_field_of_the_node_and_keeps_what_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let datastore = margay_datastore::open(&format!("sqlite://{}/db", directory.path().display())).unwrap();
        let answers = store::block_on(async {
            let absent = set_in(&*datastore, "n1", true).await.unwrap_err();
            assert!(absent.message().contains("there is no node 'n1'"));
            let mut json = serde_json::to_value(Node::named("n1", NodeSpec::default())).unwrap();
            json["spec"]["novel"] = 7.into();
            let key = resource_key::<NodeSpec>(None, "n1");
            datastore.create(&key, json.to_string().as_bytes()).await?;
            let answers = [set_in(&*datastore, "n1", true).await?, set_in(&*datastore, "n1", true).await?];
            let stored = store::decode::<NodeSpec>(&datastore.get(&key).await?.unwrap())?;
            assert!(stored.object.spec.drain);
            assert_eq!(stored.unknown_fields().collect::<Vec<_>>(), ["spec.novel"]);
            Ok(answers)
        });
        assert_eq!(answers.unwrap(), ["Node/n1 drained", "Node/n1 is drained already"]);
    }
}
