//! The policy compiler against an evaluator of its own, rule by rule and in random worlds.
#![allow(clippy::unwrap_used)]

mod explain;
mod kubernetes;
mod oracle;
mod order;
mod properties;
mod random;
mod scale;
mod tables;
mod world;
