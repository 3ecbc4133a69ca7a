use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use margay_net::Family;
use serde_json::{Map, Value, json};

use super::claims::{Feature, Kind};

/// What became of a feature with a peer in a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail(String),
}

#[derive(Default)]
pub struct Report(BTreeMap<(Feature, Kind, Family), Outcome>);

impl Report {
    /// Notes an outcome; a feature that several scenarios look at has failed where it failed in one.
    pub fn note(&mut self, feature: Feature, kind: Kind, family: Family, outcome: Outcome) {
        let known = self.0.entry((feature, kind, family)).or_insert(Outcome::Pass);
        if outcome != Outcome::Pass {
            *known = outcome;
        }
    }

    pub fn failures(&self) -> Vec<String> {
        let failed = |((feature, kind, family), outcome): (&(Feature, Kind, Family), &Outcome)| match outcome {
            Outcome::Pass => None,
            Outcome::Fail(why) => Some(format!("{} with {} {family}: {why}", feature.words(), kind.name())),
        };
        self.0.iter().filter_map(failed).collect()
    }

    pub fn write_json(&self) {
        let cell = |feature: Feature, kind: Kind, family: Family| match self.0.get(&(feature, kind, family)) {
            Some(Outcome::Pass) => json!({ "outcome": "pass" }),
            Some(Outcome::Fail(why)) => json!({ "outcome": "fail", "why": why }),
            None => match feature.not_claimed(kind) {
                Some(why) => json!({ "outcome": "not claimed", "why": why }),
                None => json!({ "outcome": "not run" }),
            },
        };
        let mut features = Map::new();
        for feature in Feature::ALL {
            let mut peers = Map::new();
            for kind in Kind::ALL {
                let families = Family::ALL.map(|family| (family.to_string(), cell(feature, kind, family)));
                peers.insert(kind.name().to_owned(), Value::Object(families.into_iter().collect()));
            }
            features.insert(feature.words().to_owned(), Value::Object(peers));
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop.json");
        std::fs::write(&path, serde_json::to_string_pretty(&features).unwrap()).unwrap();
        println!("outcomes: {}", path.display());
    }

    /// Compares what came out with the document, or writes that.
    pub fn check_document(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/interop.md");
        let text = self.document();
        if std::env::var_os("MARGAY_WRITE_INTEROP").is_some() {
            std::fs::write(&path, text).unwrap();
            return;
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text || !self.failures().is_empty(),
            "docs/interop.md is not what came out; MARGAY_WRITE_INTEROP=1 in the environment of this test writes it anew:\n{text}"
        );
    }

    fn document(&self) -> String {
        let mut text = String::from(
            "# Interoperability\n\n\
             Written by the test `matrix` of `bgp/speaker/tests`, which brings up each daemon in a network namespace, joins it to\n\
             our speaker by a veth pair and tries what follows, over IPv4 and over IPv6. The daemons are Debian 12's: BIRD 2.0.12,\n\
             FRR 8.4, GoBGP 3.10, OpenBGPD 7.7. `cargo verify` checks that the table is what comes out; how it is written anew is\n\
             said at the head of `bgp/speaker/tests/matrix/mod.rs`.\n\n\
             **4 6**: it works in both families. A number in parentheses: the peer has no part in it, for the reason below the\n\
             table.\n\n| feature |",
        );
        let line = |text: std::fmt::Arguments<'_>, into: &mut String| into.write_fmt(text).unwrap();
        Kind::ALL.iter().for_each(|kind| line(format_args!(" {} |", kind.name()), &mut text));
        text.push_str("\n|---|---|---|---|---|\n");
        let mut reasons: Vec<String> = Vec::new();
        for feature in Feature::ALL {
            line(format_args!("| {} |", feature.words()), &mut text);
            for kind in Kind::ALL {
                let cell = match feature.not_claimed(kind) {
                    Some(why) => {
                        let reason = format!("{}: {why}", kind.name());
                        let known = reasons.iter().position(|other| *other == reason).unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        format!("({})", known + 1)
                    }
                    None => {
                        let mark = |family| match self.0.get(&(feature, kind, family)) {
                            Some(Outcome::Pass) => {
                                if family == Family::V4 {
                                    "4"
                                } else {
                                    "6"
                                }
                            }
                            Some(Outcome::Fail(_)) => "FAILS",
                            None => "?",
                        };
                        Family::ALL.map(mark).join(" ")
                    }
                };
                line(format_args!(" {cell} |"), &mut text);
            }
            text.push('\n');
        }
        text.push('\n');
        for (index, reason) in reasons.iter().enumerate() {
            line(format_args!("{}. {reason}\n", index + 1), &mut text);
        }
        text
    }
}
