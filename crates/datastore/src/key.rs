use crate::error::StoreError;

/// The largest value that every driver accepts, in bytes; etcd's default request limit is 1.5 MiB with the key and
/// the comparison in it.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

const MAX_KEY_BYTES: usize = 4096;

/// Accepts absolute paths that name one key: a leading `/`, none at the end, no NUL.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    let reason = if !key.starts_with('/') {
        "a key starts with '/'"
    } else if key.ends_with('/') {
        "a key does not end with '/'"
    } else if key.contains('\0') {
        "a key contains no NUL"
    } else if key.len() > MAX_KEY_BYTES {
        "a key has at most 4096 bytes"
    } else {
        return Ok(());
    };
    Err(StoreError::Invalid { key: key.into(), reason: reason.into() })
}

/// Accepts prefixes that end in `/`, so that the prefix of `node-1` is never that of `node-10`.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    if prefix.starts_with('/') && prefix.ends_with('/') && !prefix.contains('\0') {
        return Ok(());
    }
    Err(StoreError::Invalid { key: prefix.into(), reason: "a prefix starts and ends with '/' and has no NUL".into() })
}

pub(crate) fn check_value(key: &str, value: &[u8]) -> Result<(), StoreError> {
    if value.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let reason = format!("its value has {} bytes, more than {MAX_VALUE_BYTES}; split the object", value.len());
    Err(StoreError::Invalid { key: key.into(), reason })
}

/// Returns the first string after all those that start with `prefix`, which ends in `/` (the byte before `0`).
pub(crate) fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.strip_suffix('/').unwrap_or(prefix).to_owned();
    end.push('0');
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_absolute_path_of_one_object() {
        assert!(check_key("/calico/ipam/v2/config").is_ok());
        for bad in ["", "calico", "/", "/calico/", "/a\0b", &format!("/{}", "x".repeat(5000))] {
            assert!(matches!(check_key(bad), Err(StoreError::Invalid { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_ends_in_a_slash() {
        assert!(check_prefix("/calico/").is_ok());
        assert!(check_prefix("/").is_ok());
        for bad in ["", "/calico", "calico/", "/a\0/"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_above_its_keys_and_below_its_siblings() {
        let end = prefix_end("/host/node-1/");
        for inside in ["/host/node-1/x", "/host/node-1/\u{10ffff}"] {
            assert!(inside < end.as_str() && inside >= "/host/node-1/");
        }
        for outside in ["/host/node-1", "/host/node-10/x", "/host/node-2/x"] {
            assert!(outside >= end.as_str() || outside < "/host/node-1/");
        }
    }

    #[test]
    fn a_value_that_one_driver_would_refuse_is_refused_by_all() {
        assert!(check_value("/k", &vec![0; MAX_VALUE_BYTES]).is_ok());
        assert!(matches!(check_value("/k", &vec![0; MAX_VALUE_BYTES + 1]), Err(StoreError::Invalid { .. })));
    }
}
