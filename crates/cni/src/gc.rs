//! GC and STATUS: the daemon's answer, passed on.

use margay_local_api::{ApiError, Attachment, CniStatus, GcRequest, GcResponse, path};

use crate::config::NetworkConfig;
use crate::error::CniError;

pub(crate) fn gc(config: &NetworkConfig) -> Result<(), CniError> {
    let Some(valid) = &config.valid_attachments else {
        let message = "GC needs 'cni.dev/valid-attachments' in the configuration";
        return Err(CniError::new(CniError::INVALID_CONFIG, message, "without it everything would be freed"));
    };
    let valid = valid.iter().map(|attachment| Attachment {
        network: config.name.clone(),
        container_id: attachment.container_id.clone(),
        interface: attachment.interface.clone(),
    });
    let request = GcRequest { network: config.name.clone(), valid: valid.collect() };
    let response: GcResponse = config.client().post(path::CNI_GC, &request)?;
    for freed in &response.freed {
        eprintln!("margay-cni: freed {freed}");
    }
    if response.errors.is_empty() {
        return Ok(());
    }
    Err(CniError::new(ApiError::INTERNAL, "not everything could be freed", response.errors.join("; ")))
}

pub(crate) fn status(config: &NetworkConfig) -> Result<(), CniError> {
    let answered = config.client().get::<CniStatus>(path::CNI_STATUS).map_err(CniError::from);
    answered.map(drop).map_err(|error| match error.code {
        // Whatever keeps the daemon from serving ADD is "not available" here.
        ApiError::TRY_AGAIN => CniError { code: ApiError::NOT_AVAILABLE, ..error },
        _ => error,
    })
}
