//! Clusters out of network namespaces on one machine: what the demo, the end-to-end tests and the benchmarks share.
//!
//! A lab lives in PID, mount and network namespaces of its own ([`isolation`]), so that whatever ends it leaves
//! nothing on the host. Inside, every spine, ToR, node and pod is a network namespace ([`Netns`]); veth pairs are the
//! cables ([`wiring`]); spines and ToRs run BIRD 2 ([`bird`]), nodes run the real `margayd`, pods are wired by the real
//! `margay-cni` ([`cni`]). [`Lab::start`] brings up a [`Topology`]; [`traffic`] sends and measures; [`checks`] asserts
//! the facts that a user relies on.
//!
//! ```text
//!        spine1        spine2            an AS each, BIRD 2
//!        /  |  \      /  |  \
//!   tor-a1 tor-a2   tor-b1 tor-b2        an AS each, BIRD 2, no default route announced
//!      |  \/  |        |  \/  |
//!      |  /\  |        |  /\  |
//!   node-a1 node-a2  node-b1 node-b2     an AS each, margayd
//!    |  |    |  |     |  |    |  |
//!    pods    pods     pods    pods       wired by margay-cni
//! ```
//!
//! ```no_run
//! use margay_lab::{Lab, LabOptions, Topology, isolation};
//!
//! // In a test: the closure runs as process 1 of namespaces of its own.
//! isolation::isolated("tests::pods_reach_each_other", || {
//!     let mut lab = Lab::start(LabOptions::new(Topology::default()))?;
//!     let pod = lab.add_pod("node-a1", &margay_lab::PodSpec::new("shop", "frontend-a1"))?;
//!     println!("{:?}", lab.pod(&pod)?.addresses);
//!     Ok(())
//! });
//! ```

pub mod bench;
pub mod bird;
pub mod checks;
pub mod cni;
pub mod demo;
pub mod figures;
pub mod isolation;
pub mod manifests;
pub mod measure;
pub mod places;
pub mod process;
pub mod state;
pub mod traffic;
pub mod wiring;

mod binaries;
mod daemon;
mod datastore;
mod lab;
mod netns;
mod topology;
mod wait;

pub use binaries::Binaries;
pub use cni::{Pod, PodKey, PodSpec};
pub use daemon::Node;
pub use datastore::DatastoreKind;
pub use lab::{Lab, LabOptions};
pub use netns::Netns;
pub use process::Process;
pub use topology::{Families, NodeSpec, SpineSpec, Topology, TorSpec};
pub use wait::until;
