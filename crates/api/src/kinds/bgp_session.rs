//! Settings of sessions that are Margay's own, used by BGPPeer and for the node mesh by BGPConfiguration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration::{check_duration, parse_duration};
use crate::Problem;

/// Bidirectional forwarding detection (RFC 5880) for a session. `{}` turns it on with the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BfdSettings {
    /// On where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The interval at which packets are sent at the fastest; `300ms` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tx: Option<String>,
    /// The interval at which packets are taken at the fastest; `300ms` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rx: Option<String>,
    /// How many missing packets make the session fail; 3 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<u8>,
}

impl BfdSettings {
    const DEFAULT_INTERVAL: Duration = Duration::from_millis(300);

    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    pub fn min_tx(&self) -> Duration {
        interval(self.min_tx.as_deref())
    }

    pub fn min_rx(&self) -> Duration {
        interval(self.min_rx.as_deref())
    }

    pub fn multiplier(&self) -> u8 {
        self.multiplier.unwrap_or(3)
    }

    pub(crate) fn problems(&self, field: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (name, text) in [("minTx", &self.min_tx), ("minRx", &self.min_rx)] {
            if let Some(text) = text
                && let Err(reason) = check_duration(text, Duration::from_millis(10), Duration::from_secs(60))
            {
                problems.push(Problem::new(format!("{field}.{name}"), reason));
            }
        }
        if self.multiplier == Some(0) {
            problems.push(Problem::new(format!("{field}.multiplier"), "must be 1 to 255"));
        }
        problems
    }
}

fn interval(text: Option<&str>) -> Duration {
    text.and_then(parse_duration).unwrap_or(BfdSettings::DEFAULT_INTERVAL)
}

/// What a peer may announce at most. `limit` counts for each family that has no number of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MaxPrefixes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<u32>,
    /// The part of the limit in percent at which an event warns; 75 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning_percent: Option<u8>,
    /// [`MaxPrefixesAction::Restart`] where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<MaxPrefixesAction>,
    /// When the session is tried again after [`MaxPrefixesAction::Restart`]; `5m` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_after: Option<String>,
}

/// What happens when a peer announces more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxPrefixesAction {
    /// It is said, and the routes are taken.
    Warn,
    /// The session ends (RFC 4486: Maximum Number of Prefixes Reached) and is tried again after a while.
    Restart,
    /// The session ends, until an operator resets it.
    Hold,
}

impl MaxPrefixes {
    pub fn warning_percent(&self) -> u8 {
        self.warning_percent.unwrap_or(75)
    }

    pub fn action(&self) -> MaxPrefixesAction {
        self.action.unwrap_or(MaxPrefixesAction::Restart)
    }

    pub fn restart_after(&self) -> Duration {
        self.restart_after.as_deref().and_then(parse_duration).unwrap_or(Duration::from_secs(300))
    }

    pub(crate) fn problems(&self, field: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut refuse = |name: &str, reason: &str| problems.push(Problem::new(format!("{field}.{name}"), reason));
        if self.limit.is_none() && self.ipv4.is_none() && self.ipv6.is_none() {
            refuse("limit", "is needed, or one for a family by 'ipv4' or 'ipv6'");
        }
        for (name, value) in [("limit", self.limit), ("ipv4", self.ipv4), ("ipv6", self.ipv6)] {
            if value == Some(0) {
                refuse(name, "must be at least 1; to take nothing, use a BGPFilter");
            }
        }
        if self.warning_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            refuse("warningPercent", "must be 1 to 100");
        }
        if let Some(text) = &self.restart_after {
            if self.action() != MaxPrefixesAction::Restart {
                refuse("restartAfter", "counts with 'action: Restart' only");
            }
            if let Err(reason) = check_duration(text, Duration::from_secs(1), Duration::from_secs(86_400)) {
                refuse("restartAfter", &reason);
            }
        }
        problems
    }
}

/// Several paths for a prefix in one session (RFC 7911).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AddPathSettings {
    /// Whether several paths are taken; on where absent, as with Calico.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<bool>,
    /// Which paths are sent; [`AddPathSend::All`] where absent, as with Calico.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<AddPathSend>,
    /// How many paths [`AddPathSend::Best`] sends at most; 2 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_limit: Option<u8>,
}

/// Which paths a session sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddPathSend {
    /// The best path alone.
    None,
    All,
    /// The best ones, `sendLimit` of them at most.
    Best,
}

impl AddPathSettings {
    pub fn receive(&self) -> bool {
        self.receive.unwrap_or(true)
    }

    pub fn send(&self) -> AddPathSend {
        self.send.unwrap_or(AddPathSend::All)
    }

    pub fn send_limit(&self) -> u8 {
        self.send_limit.unwrap_or(2)
    }

    pub(crate) fn problems(&self, field: &str) -> Vec<Problem> {
        let problem = |reason: &str| vec![Problem::new(format!("{field}.sendLimit"), reason)];
        match self.send_limit {
            Some(0) => problem("must be 1 to 255"),
            Some(_) if self.send() != AddPathSend::Best => problem("counts with 'send: Best' only"),
            _ => Vec::new(),
        }
    }
}

/// The sessions of the node mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_retry: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_path: Option<AddPathSettings>,
}

impl MeshSettings {
    pub(crate) fn problems(&self, field: &str) -> Vec<Problem> {
        let mut problems = session_times(field, self.hold_time.as_deref(), self.connect_retry.as_deref());
        problems.extend(self.bfd.iter().flat_map(|bfd| bfd.problems(&format!("{field}.bfd"))));
        problems.extend(self.add_path.iter().flat_map(|paths| paths.problems(&format!("{field}.addPath"))));
        problems
    }
}

/// What is wrong with the times of a session.
pub(crate) fn session_times(field: &str, hold: Option<&str>, connect_retry: Option<&str>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(text) = hold {
        let most = Duration::from_secs(65_535);
        let allowed = match parse_duration(text) {
            Some(Duration::ZERO) => Ok(()),
            Some(value) if value.subsec_nanos() != 0 => Err(format!("'{text}' is not a whole number of seconds")),
            _ => check_duration(text, Duration::from_secs(3), most)
                .map_err(|reason| format!("{reason} (RFC 4271 section 4.2; 0s: never expires)")),
        };
        problems.extend(allowed.err().map(|reason| Problem::new(format!("{field}.holdTime"), reason)));
    }
    if let Some(text) = connect_retry {
        let checked = check_duration(text, Duration::from_secs(1), Duration::from_secs(65_535));
        problems.extend(checked.err().map(|reason| Problem::new(format!("{field}.connectRetry"), reason)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(problems: Vec<Problem>) -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_empty_bfd_object_is_on_with_the_defaults() {
        let bfd = BfdSettings::default();
        assert_eq!(
            (bfd.is_enabled(), bfd.min_tx(), bfd.min_rx(), bfd.multiplier()),
            (true, Duration::from_millis(300), Duration::from_millis(300), 3)
        );
        let fast = BfdSettings { min_tx: Some("1ms".into()), multiplier: Some(0), ..BfdSettings::default() };
        assert_eq!(
            said(fast.problems("spec.bfd")),
            ["spec.bfd.minTx: '1ms' is not within 10ms to 60s", "spec.bfd.multiplier: must be 1 to 255"]
        );
    }

    #[test]
    fn hold_times_are_those_of_the_rfc() {
        for (text, good) in [("0s", true), ("3s", true), ("2s", false), ("1h", true), ("19h", false), ("3500ms", false)]
        {
            assert_eq!(session_times("spec", Some(text), None).is_empty(), good, "{text}");
        }
        assert_eq!(said(session_times("spec", None, Some("0s"))).len(), 1);
    }

    #[test]
    fn a_limit_is_needed_and_a_restart_time_goes_with_its_action() {
        let limits = MaxPrefixes {
            restart_after: Some("1m".into()),
            action: Some(MaxPrefixesAction::Hold),
            ..MaxPrefixes::default()
        };
        let problems = said(limits.problems("spec.maxPrefixes"));
        assert_eq!(problems.len(), 2, "{problems:?}");
        let good = MaxPrefixes { action: Some(MaxPrefixesAction::Restart), ipv4: Some(9), ..limits };
        assert!(good.problems("spec.maxPrefixes").is_empty());
    }

    #[test]
    fn a_number_of_paths_goes_with_best() {
        let settings = AddPathSettings { send_limit: Some(4), ..AddPathSettings::default() };
        assert_eq!(settings.problems("spec.addPath").len(), 1);
        let best = AddPathSettings { send: Some(AddPathSend::Best), ..settings };
        assert!(best.problems("spec.addPath").is_empty());
    }
}
