use serde::{Deserialize, Serialize};

/// `POST /v1/policy/explain`: would a connection pass, and why?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// `NAMESPACE/POD` or an address.
    pub from: String,
    pub to: String,
    /// `TCP`, `UDP`, `SCTP` or a number.
    pub protocol: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainResponse {
    pub allowed: bool,
    /// The reasoning, a line for each step.
    pub lines: Vec<String>,
}
