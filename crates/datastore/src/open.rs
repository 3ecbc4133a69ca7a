use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::datastore::Datastore;
use crate::error::OpenError;
use crate::etcd::{EtcdOptions, EtcdStore, EtcdTls};
use crate::sqlite::{SqliteOptions, SqliteStore};

const FORMS: &str = "set MARGAY_DATASTORE (or --datastore) to sqlite:///path/to.db for several processes of one \
     machine, or to etcd://host:2379[,host:2379] or etcds://host:2379 for a cluster";

/// Opens the datastore that `url` names.
///
/// * `sqlite:///path/to.db`: a file of this machine, created with mode 0600 when it is absent; the path is taken
///   literally, without escapes or options;
/// * `etcd://host:port[,host:port]`: etcd v3 in plain text;
/// * `etcds://host:port[,host:port]`: etcd v3 over TLS, trusting the authority of `MARGAY_ETCD_CA_FILE`, with the
///   client certificate of `MARGAY_ETCD_CERT_FILE` and `MARGAY_ETCD_KEY_FILE` where set.
///
/// `MARGAY_ETCD_USERNAME` and `MARGAY_ETCD_PASSWORD` log in to etcd. An etcd that is away is not an error here: calls
/// answer [`StoreError::Unavailable`](crate::StoreError::Unavailable) until it is there. There is no default: two
/// hosts that each silently used a file of their own would give the same address twice.
pub fn open(url: &str) -> Result<Arc<dyn Datastore>, OpenError> {
    match Location::parse(url)? {
        Location::Sqlite(path) => Ok(Arc::new(SqliteStore::open(&path, SqliteOptions::default())?)),
        Location::Etcd { endpoints, tls } => {
            let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            let options = etcd_options(tls, &environment, &|path| std::fs::read(path))?;
            Ok(Arc::new(EtcdStore::open(endpoints, options)?))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Location {
    Sqlite(PathBuf),
    Etcd { endpoints: Vec<String>, tls: bool },
}

impl Location {
    fn parse(url: &str) -> Result<Self, OpenError> {
        let url = url.trim();
        if url.is_empty() {
            return Err(OpenError::Usage {
                reason: "no datastore is configured".into(),
                advice: format!(
                    "{FORMS}; there is no default, since two hosts that each used a file of their own would give the \
                     same address twice"
                ),
            });
        }
        let usage = |reason: String| OpenError::Usage { reason, advice: FORMS.into() };
        match url.split_once("://") {
            Some(("sqlite", path)) if path.starts_with('/') && !path.ends_with('/') => Ok(Self::Sqlite(path.into())),
            Some(("sqlite", path)) => {
                Err(usage(format!("the sqlite datastore needs an absolute file path, not {path:?}")))
            }
            Some((scheme @ ("etcd" | "etcds"), hosts)) => {
                let tls = scheme == "etcds";
                let endpoints = hosts.split(',').map(|host| endpoint(host, tls)).collect::<Option<Vec<_>>>();
                let endpoints = endpoints
                    .ok_or_else(|| usage(format!("{hosts:?} is not a list of host:port separated by commas")))?;
                Ok(Self::Etcd { endpoints, tls })
            }
            _ => Err(usage(format!("{url:?} is not a datastore that this build knows"))),
        }
    }
}

/// Returns `http[s]://host:port`, or nothing when `text` is not `host:port`, `v4:port` or `[v6]:port`.
fn endpoint(text: &str, tls: bool) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let plain = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    plain.then(|| format!("{}://{host}:{port}", if tls { "https" } else { "http" }))
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;
type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;

fn etcd_options(tls: bool, environment: Environment<'_>, read: ReadFile<'_>) -> Result<EtcdOptions, OpenError> {
    let usage = |reason: &str, advice: &str| OpenError::Usage { reason: reason.into(), advice: advice.into() };
    let file = |name: &str| -> Result<Option<Vec<u8>>, OpenError> {
        let Some(path) = environment(name).map(PathBuf::from) else { return Ok(None) };
        let advice = format!("check {name}");
        read(&path).map(Some).map_err(|error| OpenError::File { path, reason: error.to_string(), advice })
    };

    let credentials = match (environment("MARGAY_ETCD_USERNAME"), environment("MARGAY_ETCD_PASSWORD")) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        _ => {
            return Err(usage(
                "only one of the etcd user name and password is set",
                "set both MARGAY_ETCD_USERNAME and MARGAY_ETCD_PASSWORD, or neither",
            ));
        }
    };
    if !tls {
        let set = ["MARGAY_ETCD_CA_FILE", "MARGAY_ETCD_CERT_FILE", "MARGAY_ETCD_KEY_FILE"]
            .into_iter()
            .find(|name| environment(name).is_some());
        return match set {
            Some(name) => {
                Err(usage(&format!("{name} is set, but etcd:// is plain text"), "write etcds://, or unset it"))
            }
            None => Ok(EtcdOptions { credentials, tls: None }),
        };
    }
    let authority = file("MARGAY_ETCD_CA_FILE")?.ok_or_else(|| {
        usage("etcds:// needs the authority that signed etcd's certificate", "set MARGAY_ETCD_CA_FILE to its PEM file")
    })?;
    let identity = match (file("MARGAY_ETCD_CERT_FILE")?, file("MARGAY_ETCD_KEY_FILE")?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return Err(usage(
                "only one of the etcd client certificate and key is set",
                "set both MARGAY_ETCD_CERT_FILE and MARGAY_ETCD_KEY_FILE, or neither",
            ));
        }
    };
    Ok(EtcdOptions { credentials, tls: Some(EtcdTls { authority, identity }) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file_or_a_list_of_hosts() {
        assert_eq!(
            Location::parse("sqlite:///var/lib/margay/a.db").unwrap(),
            Location::Sqlite("/var/lib/margay/a.db".into())
        );
        assert_eq!(
            Location::parse("etcd://a:2379,[::1]:2380").unwrap(),
            Location::Etcd { endpoints: vec!["http://a:2379".into(), "http://[::1]:2380".into()], tls: false }
        );
        assert_eq!(
            Location::parse("etcds://10.0.0.1:2379").unwrap(),
            Location::Etcd { endpoints: vec!["https://10.0.0.1:2379".into()], tls: true }
        );
    }

    #[test]
    fn other_urls_are_refused_with_the_accepted_forms() {
        for bad in [
            "",
            "  ",
            "sqlite://relative.db",
            "sqlite:///dir/",
            "etcd://",
            "etcd://host",
            "etcd://host:0",
            "etcd://a:1,",
            "etcd://a:2379/path",
            "etcd://[::x]:1",
            "etcd://u@h:1",
            "consul://x:1",
            "kubernetes",
            "/var/lib/a.db",
        ] {
            let error = Location::parse(bad).unwrap_err();
            assert!(matches!(error, OpenError::Usage { .. }), "{bad:?}");
            let text = error.to_string();
            assert!(text.contains("sqlite:///path/to.db") && text.contains("etcd://host:2379"), "{text}");
        }
    }

    #[test]
    fn an_unset_datastore_is_refused_with_the_reason_why_there_is_no_default() {
        assert!(open("").unwrap_err().to_string().contains("the same address twice"));
    }

    fn options(tls: bool, set: &[(&str, &str)]) -> Result<EtcdOptions, OpenError> {
        let environment = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let read = |path: &Path| match path.to_str() {
            Some("/missing") => Err(std::io::ErrorKind::NotFound.into()),
            other => Ok(other.unwrap_or_default().as_bytes().to_vec()),
        };
        etcd_options(tls, &environment, &read)
    }

    #[test]
    fn tls_files_and_credentials_come_from_the_environment() {
        let all = options(
            true,
            &[
                ("MARGAY_ETCD_CA_FILE", "/ca"),
                ("MARGAY_ETCD_CERT_FILE", "/cert"),
                ("MARGAY_ETCD_KEY_FILE", "/key"),
                ("MARGAY_ETCD_USERNAME", "u"),
                ("MARGAY_ETCD_PASSWORD", "p"),
            ],
        )
        .unwrap();
        let tls = all.tls.unwrap();
        assert_eq!((tls.authority, tls.identity), (b"/ca".to_vec(), Some((b"/cert".to_vec(), b"/key".to_vec()))));
        assert_eq!(all.credentials, Some(("u".into(), "p".into())));
    }

    #[test]
    fn half_a_pair_or_files_for_plain_text_are_refused() {
        let usage = |tls, set: &[(&str, &str)]| matches!(options(tls, set), Err(OpenError::Usage { .. }));
        assert!(usage(true, &[]));
        assert!(usage(true, &[("MARGAY_ETCD_CA_FILE", "/ca"), ("MARGAY_ETCD_CERT_FILE", "/cert")]));
        assert!(usage(false, &[("MARGAY_ETCD_CA_FILE", "/ca")]));
        assert!(usage(false, &[("MARGAY_ETCD_USERNAME", "u")]));
        assert!(options(false, &[]).is_ok());
    }

    #[test]
    fn a_missing_tls_file_is_named() {
        let error = options(true, &[("MARGAY_ETCD_CA_FILE", "/missing")]).unwrap_err().to_string();
        assert!(error.contains("/missing") && error.contains("MARGAY_ETCD_CA_FILE"), "{error}");
    }
}
