//! Since when the node's resource has it drained, kept over restarts: a drained node that restarts does not announce its
//! routes again for the time that it has behind it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use margay_bgp_core::Drain;

/// The file in the state folder with the time at which the drain began (RFC 3339); not there where the node is not drained.
#[derive(Debug)]
pub(crate) struct DrainRecord {
    file: PathBuf,
    began: Option<SystemTime>,
}

impl DrainRecord {
    /// Reads what the last run left.
    pub(crate) fn open(state: &Path) -> DrainRecord {
        let file = state.join("drain");
        let began = match fs::read_to_string(&file) {
            Ok(text) => humantime::parse_rfc3339(text.trim()).ok(),
            Err(_) => None,
        };
        DrainRecord { file, began }
    }

    /// Returns the drain that the resource asks for, with its beginning; notes when one begins and when it ends.
    pub(crate) fn follow(&mut self, wanted: Option<Drain>, now: SystemTime) -> Option<Drain> {
        let Some(drain) = wanted else {
            if self.began.take().is_some() {
                self.note(fs::remove_file(&self.file));
            }
            return None;
        };
        let began = *self.began.get_or_insert_with(|| {
            let text = format!("{}\n", humantime::format_rfc3339_millis(now));
            let written = fs::write(&self.file, text);
            if let Err(error) = written {
                tracing::warn!(file = %self.file.display(), %error, "a restart will begin the drain anew");
            }
            now
        });
        Some(Drain { began: Some(began), ..drain })
    }

    fn note(&self, removed: std::io::Result<()>) {
        if let Err(error) = removed
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(file = %self.file.display(), %error, "the end of the drain is not noted: remove the file");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn a_drain_keeps_its_beginning_over_restarts_and_the_next_one_has_its_own() {
        let state = tempfile::tempdir().unwrap();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds);
        let wanted = Some(Drain { withdraw_after: Duration::from_secs(60), began: None });
        let began = |drain: Option<Drain>| drain.and_then(|drain| drain.began);

        let mut record = DrainRecord::open(state.path());
        assert_eq!(record.follow(None, at(0)), None);
        assert_eq!(began(record.follow(wanted, at(1))), Some(at(1)));
        assert_eq!(began(record.follow(wanted, at(2))), Some(at(1)));

        let mut record = DrainRecord::open(state.path());
        assert_eq!(began(record.follow(wanted, at(100))), Some(at(1)));
        assert_eq!(record.follow(None, at(101)), None);
        assert_eq!(began(record.follow(wanted, at(102))), Some(at(102)));
        record.follow(None, at(103));
        assert_eq!(began(DrainRecord::open(state.path()).follow(wanted, at(104))), Some(at(104)));
    }
}
