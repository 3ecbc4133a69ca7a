use std::fmt;

use margay_local_api::{ApiError, ClientError};
use serde_json::{Value, json};

use crate::version::Version;

/// An error as the CNI specification has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CniError {
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) details: String,
}

impl CniError {
    pub(crate) const INCOMPATIBLE_VERSION: u32 = 1;
    pub(crate) const INVALID_ENVIRONMENT: u32 = 4;
    pub(crate) const IO_FAILURE: u32 = 5;
    pub(crate) const DECODING_FAILURE: u32 = 6;
    pub(crate) const INVALID_CONFIG: u32 = 7;
    /// The namespace can't be a container's, as the CNI library's skeleton for plugins has it.
    pub(crate) const INVALID_NETNS: u32 = 8;

    pub(crate) fn new(code: u32, message: impl Into<String>, details: impl fmt::Display) -> CniError {
        CniError { code, message: message.into(), details: details.to_string() }
    }

    pub(crate) fn io(message: impl Into<String>, error: &dyn fmt::Display) -> CniError {
        CniError::new(CniError::IO_FAILURE, message, error)
    }

    pub(crate) fn to_json(&self, version: Version) -> Value {
        json!({ "cniVersion": version.as_str(), "code": self.code, "msg": self.message, "details": self.details })
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl From<ClientError> for CniError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api(ApiError { code, message, details }) => CniError { code, message, details },
            // The daemon is starting, restarting or down: the runtime should come back.
            unreachable @ ClientError::Unreachable { .. } => {
                CniError::new(ApiError::TRY_AGAIN, "margayd is not reachable", unreachable)
            }
            other => CniError::new(ApiError::INTERNAL, "margayd answered something unexpected", other),
        }
    }
}
