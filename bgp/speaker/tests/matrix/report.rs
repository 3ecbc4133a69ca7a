use std::collections::BTreeMap;
use std::path::Path;

use margay_net::Family;
use serde_json::{Map, Value, json};

use super::claims::{Feature, Kind};
use crate::support::document::{Mark, Table, check_part};

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
        if self.failures().is_empty() {
            check_part("matrix", &self.document());
        }
    }

    fn document(&self) -> String {
        let mark = |feature: Feature, kind: Kind| match feature.not_claimed(kind) {
            Some(why) => Mark::Without(format!("{}: {why}", kind.name())),
            None => Mark::Text(Family::ALL.map(|family| self.mark(feature, kind, family)).join(" ")),
        };
        let table = Table {
            columns: std::iter::once("feature").chain(Kind::ALL.map(Kind::name)).collect(),
            rows: Feature::ALL
                .map(|feature| (feature.words().to_owned(), Kind::ALL.map(|kind| mark(feature, kind)).into()))
                .into(),
        };
        format!("{HEAD}\n{}", table.markdown())
    }

    fn mark(&self, feature: Feature, kind: Kind, family: Family) -> &'static str {
        match (self.0.get(&(feature, kind, family)), family) {
            (Some(Outcome::Pass), Family::V4) => "4",
            (Some(Outcome::Pass), Family::V6) => "6",
            (Some(Outcome::Fail(_)), _) => "FAILS",
            (None, _) => "?",
        }
    }
}

const HEAD: &str = "\
The test `matrix` of `bgp/speaker/tests` brings up each daemon in a network namespace, joins it to our speaker by a veth
pair and tries what follows, over IPv4 and over IPv6. The daemons are Debian 12's: BIRD 2.0.12, FRR 8.4, GoBGP 3.10,
OpenBGPD 7.7.

**4 6**: it works in both families. A number in parentheses: the peer has no part in it, for the reason below the table.
NO_PEER has no row for the peers: all four tell what it marks.
";
