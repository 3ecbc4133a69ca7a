use serde_json::{Value, json};

/// A version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(crate) const ALL: [Version; 5] =
        [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];
    pub(crate) const NEWEST: Version = Version::V1_1_0;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Version> {
        Version::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

/// The answer to VERSION: what the plugin supports, in the version that the runtime speaks, if it says.
pub(crate) fn report(stdin: &[u8]) -> Value {
    let spoken = serde_json::from_slice::<Value>(stdin).ok();
    let spoken = spoken.as_ref().and_then(|config| config.get("cniVersion")).and_then(Value::as_str);
    let versions: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
    json!({ "cniVersion": spoken.unwrap_or(Version::NEWEST.as_str()), "supportedVersions": versions })
}
