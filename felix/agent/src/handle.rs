use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_felix_core::policy::PolicyChanges;
use margay_felix_core::routes::{LocalEndpoint, POD_INTERFACE_PREFIX};
use margay_net::{Cidr, FibBatch};
use tokio::sync::{mpsc, oneshot};

use crate::status::FelixStatus;

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The node's own addresses as far as they are known; [`ToFelix::NodeAddresses`] replaces them. If they are not those of
    /// the agent before, the BGP routes that it left are rewritten.
    pub node_addresses: Vec<IpAddr>,
    /// How the host interfaces of pods begin.
    pub pod_interface_prefix: String,
    /// Nothing but the routes of [`crate::BGP_PROTOCOL`] is read or written: no policy, no kernel setting, no route of a
    /// pod or block, even if one of another agent's is there.
    pub routes_only: bool,
}

impl Default for AgentOptions {
    fn default() -> Self {
        AgentOptions {
            node_addresses: Vec::new(),
            pod_interface_prefix: POD_INTERFACE_PREFIX.into(),
            routes_only: false,
        }
    }
}

/// What the agent is told. It is carried out in the order of sending.
#[derive(Debug)]
pub enum ToFelix {
    /// The datastore's state was sent: the kernel may be changed from here on.
    InSync,
    /// A local pod came, changed or (`None`) went. Its policy is to be sent before. A host interface that is down is
    /// set up once, when its policy is in the kernel.
    Endpoint { interface: String, endpoint: Option<LocalEndpoint> },
    /// The whole set of blocks that are affine to this node.
    OwnBlocks(BTreeSet<Cidr>),
    /// The whole set of addresses of local pods outside of the own blocks, each announced with its pod's route.
    BorrowedAddresses(BTreeSet<Cidr>),
    /// The node's own addresses: the source of what the host sends over BGP routes, and announced where they are on
    /// the loopback.
    NodeAddresses(Vec<IpAddr>),
    /// Best routes from the speaker.
    Fib(FibBatch),
    /// The whole set of next hops that are on no link, whose ways the speaker asks for: each is answered by
    /// [`margay_net::FromFelix::NextHop`], again whenever it changes, and those that the set before did not have in any case.
    TrackNextHops(BTreeSet<IpAddr>),
    /// A step from the policy tables sent so far to the next.
    Policy(PolicyChanges),
    /// Answered when everything sent before is in the kernel, however many BGP routes that is, or with what is not if that
    /// lasts half a second: a refused route of any kind, the policy, an endpoint sent since the last barrier whose
    /// interface is missing or down.
    Barrier(oneshot::Sender<Result<(), String>>),
    /// As [`ToFelix::Barrier`] for the policy and one endpoint alone: neither the troubles of others nor BGP routes that are
    /// being written hold it up.
    EndpointBarrier { interface: String, reply: oneshot::Sender<Result<(), String>> },
    /// Answered with the present state.
    Status(oneshot::Sender<FelixStatus>),
}

/// The way to an agent's task, which ends when its last handle is dropped; it leaves the kernel as it is.
#[derive(Debug, Clone)]
pub struct FelixHandle {
    pub(crate) sender: mpsc::Sender<ToFelix>,
}

impl FelixHandle {
    /// Sends a message; waits while the queue is full. Nothing happens if the agent's task has ended.
    pub async fn send(&self, message: ToFelix) {
        if self.sender.send(message).await.is_err() {
            tracing::debug!("a message to an agent that has ended");
        }
    }

    /// Waits until everything sent before is in the kernel; see [`ToFelix::Barrier`].
    pub async fn barrier(&self) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(ToFelix::Barrier(reply)).await;
        answer.await.unwrap_or_else(|_| Err("the routing agent has ended".to_owned()))
    }

    /// Waits until an endpoint's policy and routes are in the kernel; see [`ToFelix::EndpointBarrier`].
    pub async fn endpoint_barrier(&self, interface: &str) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(ToFelix::EndpointBarrier { interface: interface.to_owned(), reply }).await;
        answer.await.unwrap_or_else(|_| Err("the routing agent has ended".to_owned()))
    }

    /// The present state; empty and not in sync if the agent's task has ended.
    pub async fn status(&self) -> FelixStatus {
        let (reply, answer) = oneshot::channel();
        self.send(ToFelix::Status(reply)).await;
        answer.await.unwrap_or_default()
    }
}
