//! Resources in, desired kernel state out: which packets may pass (`policy`) and which routes this node holds
//! (`routes`). Pure: no IO, no clock.

pub mod policy;
pub mod routes;
