use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::CniError;
use crate::version::Version;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    /// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
    pub(crate) fn check_version(self, version: Version) -> Result<(), CniError> {
        let since = match self {
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
            Command::Add | Command::Del | Command::Version => Version::V0_3_0,
        };
        if version >= since {
            return Ok(());
        }
        let message = format!("{self:?} needs a configuration of version {} or later", since.as_str());
        Err(CniError::new(CniError::INCOMPATIBLE_VERSION, message, format!("it says {}", version.as_str())))
    }
}

/// What the runtime says in the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) command: Command,
    pub(crate) container_id: String,
    /// Absent in a DEL after the namespace is gone.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) interface: String,
    /// The namespace may be the host's own, as tests want it.
    pub(crate) allows_host_netns: bool,
    pub(crate) args: BTreeMap<String, String>,
}

/// The keys of CNI_ARGS that are understood.
const KNOWN_ARGS: [&str; 5] =
    ["IgnoreUnknown", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"];

impl Environment {
    /// Reads the environment; None where there is no CNI_COMMAND at all.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Environment>, CniError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(command) = variable("CNI_COMMAND") else { return Ok(None) };
        let command = match command.as_str() {
            "ADD" => Command::Add,
            "DEL" => Command::Del,
            "CHECK" => Command::Check,
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            other => {
                let details = "expected ADD, DEL, CHECK, GC, STATUS or VERSION";
                return Err(invalid(format!("CNI_COMMAND is '{other}'"), details));
            }
        };
        let needed: &[&str] = match command {
            Command::Add | Command::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Command::Gc | Command::Status | Command::Version => &[],
        };
        let missing: Vec<&str> = needed.iter().copied().filter(|name| variable(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(invalid(format!("required environment variables are missing: {}", missing.join(", ")), ""));
        }
        let environment = Environment {
            command,
            container_id: variable("CNI_CONTAINERID").unwrap_or_default(),
            netns: variable("CNI_NETNS").map(PathBuf::from),
            interface: variable("CNI_IFNAME").unwrap_or_default(),
            allows_host_netns: variable("CNI_NETNS_OVERRIDE").is_some_and(|value| is_true(&value)),
            args: parse_args(&variable("CNI_ARGS").unwrap_or_default())?,
        };
        if !needed.is_empty() {
            environment.validate()?;
        }
        Ok(Some(environment))
    }

    fn validate(&self) -> Result<(), CniError> {
        let id = &self.container_id;
        let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !id.bytes().all(alphabet) || !id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            let details = "it must begin with a letter or digit, and hold letters, digits, '_', '.' and '-' only";
            return Err(invalid(format!("CNI_CONTAINERID '{id}' is not valid"), details));
        }
        let name = &self.interface;
        let refused = |c: char| c == '/' || c == ':' || c.is_whitespace();
        if name.len() > 15 || name == "." || name == ".." || name.contains(refused) {
            let details = "it must have 1 to 15 characters, none of them '/', ':' or white space";
            return Err(invalid(format!("CNI_IFNAME '{name}' is not valid"), details));
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>, details: &str) -> CniError {
    CniError::new(CniError::INVALID_ENVIRONMENT, message, details)
}

fn is_true(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}

/// Reads `K=V;K=V`, in any order. An unknown key is an error unless IgnoreUnknown is set.
fn parse_args(text: &str) -> Result<BTreeMap<String, String>, CniError> {
    let mut args = BTreeMap::new();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(invalid(format!("CNI_ARGS has '{pair}', which is not KEY=VALUE"), ""));
        };
        args.insert(key.to_owned(), value.to_owned());
    }
    let lenient = args.get("IgnoreUnknown").is_some_and(|value| is_true(value));
    match args.keys().find(|key| !KNOWN_ARGS.contains(&key.as_str())) {
        Some(unknown) if !lenient => Err(invalid(format!("CNI_ARGS has the unknown key '{unknown}'"), "")),
        _ => Ok(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Environment>, CniError> {
        Environment::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    const ADD: [(&str, &str); 4] =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];

    #[test]
    fn missing_variables_are_all_named() {
        let error = read(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0")]).expect_err("incomplete");
        assert_eq!(error.code, 4);
        assert_eq!(error.message, "required environment variables are missing: CNI_CONTAINERID, CNI_NETNS");
        assert_eq!(read(&[]), Ok(None));
    }

    #[test]
    fn a_del_needs_no_namespace() {
        let pairs = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "")];
        let environment = read(&pairs).expect("valid").expect("a command");
        assert_eq!(environment.netns, None);
    }

    #[test]
    fn ids_and_names_that_cannot_be_are_refused() {
        for (name, value) in [
            ("CNI_CONTAINERID", "../x"),
            ("CNI_CONTAINERID", ".x"),
            ("CNI_IFNAME", "a-name-that-is-too-long"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", ".."),
            ("CNI_COMMAND", "add"),
        ] {
            let mut pairs: Vec<(&str, &str)> = ADD.into_iter().filter(|(key, _)| *key != name).collect();
            pairs.push((name, value));
            assert_eq!(read(&pairs).expect_err(value).code, 4);
        }
    }

    #[test]
    fn args_come_in_any_order_and_unknown_ones_only_when_ignored() {
        let with = |args: &str| {
            let mut pairs = ADD.to_vec();
            pairs.push(("CNI_ARGS", args));
            read(&pairs).map(|environment| environment.expect("a command").args)
        };
        for args in [
            "K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;X=1;IgnoreUnknown=1",
            "IgnoreUnknown=1;X=1;K8S_POD_NAMESPACE=b;K8S_POD_NAME=a",
        ] {
            assert_eq!(with(args).expect("valid")["K8S_POD_NAME"], "a");
        }
        assert_eq!(with("X=1").expect_err("unknown").code, 4);
        assert_eq!(with("X").expect_err("no pair").code, 4);
    }

    #[test]
    fn commands_are_refused_below_the_version_that_brought_them() {
        assert!(Command::Check.check_version(Version::V0_3_1).is_err());
        assert!(Command::Gc.check_version(Version::V1_0_0).is_err());
        assert!(Command::Status.check_version(Version::V1_1_0).is_ok());
    }
}
