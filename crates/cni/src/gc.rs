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
    let answered = config.client().get::<CniStatus>(&status_path(config)).map_err(CniError::from);
    answered.map(drop).map_err(|error| match error.code {
        // Whatever keeps the daemon from serving ADD is "not available" here.
        ApiError::TRY_AGAIN => CniError { code: ApiError::NOT_AVAILABLE, ..error },
        _ => error,
    })
}

/// The question, with what ADD would ask for.
fn status_path(config: &NetworkConfig) -> String {
    let (ipv4, ipv6) = config.families();
    let list = |names: &[String]| names.iter().map(|name| encoded(name)).collect::<Vec<_>>().join(",");
    let (ipv4_pools, ipv6_pools) = (list(&config.ipam.ipv4_pools), list(&config.ipam.ipv6_pools));
    format!("{}?ipv4={ipv4}&ipv6={ipv6}&ipv4_pools={ipv4_pools}&ipv6_pools={ipv6_pools}", path::CNI_STATUS)
}

/// Text as a query may hold it (RFC 3986, section 2.1).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':');
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_asks_for_what_add_would() {
        let config = |ipam: &str| {
            let json = format!(r#"{{"cniVersion":"1.1.0","name":"n","ipam":{ipam}}}"#);
            NetworkConfig::parse(json.as_bytes()).expect("valid")
        };
        assert_eq!(status_path(&config("{}")), "/v1/cni/status?ipv4=true&ipv6=false&ipv4_pools=&ipv6_pools=");
        let dual = config(r#"{"assign_ipv6":"true","ipv4_pools":["a","10.0.0.0/8"],"ipv6_pools":["x&y z"]}"#);
        assert_eq!(
            status_path(&dual),
            "/v1/cni/status?ipv4=true&ipv6=true&ipv4_pools=a,10.0.0.0/8&ipv6_pools=x%26y%20z"
        );
    }
}
