//! Failures in the words and codes of the plugin.

use std::time::Duration;

use margay_datastore::StoreError;
use margay_ipam_client::IpamError;
use margay_local_api::ApiError;
use tokio::sync::oneshot;

/// The longest that anybody waits for the kernel.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn bad_request(details: impl Into<String>) -> ApiError {
    ApiError::new(ApiError::BAD_REQUEST, "the request cannot be understood", details)
}

pub(super) fn stopping() -> ApiError {
    ApiError::new(ApiError::TRY_AGAIN, "margayd is stopping", "")
}

pub(super) fn store_error(error: &StoreError) -> ApiError {
    let code = if error.is_retryable() { ApiError::TRY_AGAIN } else { ApiError::INTERNAL };
    ApiError::new(code, "the datastore could not be written or read", error.to_string())
}

pub(super) fn ipam_error(error: IpamError) -> ApiError {
    let code = match &error {
        error if error.is_retryable() => ApiError::TRY_AGAIN,
        IpamError::Exhausted { .. } | IpamError::NoPool { .. } => ApiError::EXHAUSTED,
        _ => ApiError::INTERNAL,
    };
    ApiError::new(code, "no address could be assigned or freed", error.to_string())
}

/// Waits until felix says that the kernel has what it was told.
pub(super) async fn kernel_has_it(told: oneshot::Receiver<Result<(), String>>) -> Result<(), ApiError> {
    match tokio::time::timeout(KERNEL_TIMEOUT, told).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(reason))) => Err(ApiError::new(ApiError::INTERNAL, "the kernel could not be programmed", reason)),
        Ok(Err(_)) => Err(stopping()),
        Err(_) => {
            let details = format!("nothing after {KERNEL_TIMEOUT:?}; see `margayctl status`");
            Err(ApiError::new(ApiError::TRY_AGAIN, "the kernel is not programmed yet", details))
        }
    }
}
