use margay_datastore::{OpenError, StoreError};
use margay_ipam_client::IpamError;
use margay_local_api::ClientError;

/// Why a command did not do what it was asked; decides the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and failed, or a check did not pass.
    Failed(String),
    /// The command line or the file is wrong.
    Usage(String),
    /// The daemon or the datastore does not answer.
    Unreachable(String),
}

impl Failure {
    pub(crate) fn message(&self) -> &str {
        match self {
            Failure::Failed(message) | Failure::Usage(message) | Failure::Unreachable(message) => message,
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Failure::Usage(error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_retryable() { Failure::Unreachable(error.to_string()) } else { Failure::Failed(error.to_string()) }
    }
}

impl From<IpamError> for Failure {
    fn from(error: IpamError) -> Self {
        if error.is_retryable() { Failure::Unreachable(error.to_string()) } else { Failure::Failed(error.to_string()) }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } => Failure::Unreachable(error.to_string()),
            other => Failure::Failed(other.to_string()),
        }
    }
}
