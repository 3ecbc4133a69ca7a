//! Passwords that BGPPeers name, from files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use margay_api::kinds::SecretKeyRef;

/// Notices that the file of a password changed, appeared or went: nobody tells of it.
#[derive(Debug, Default)]
pub(crate) struct Stamps(BTreeMap<(String, String), Option<Stamp>>);

/// When a file was written last, and its length.
type Stamp = (SystemTime, u64);

impl Stamps {
    /// Tells whether a file is another one than at the last look, and takes the look. A reference that is new makes no
    /// difference: a look is to be taken before its file is read, too.
    pub(crate) fn changed(&mut self, directory: &Path, references: &BTreeSet<(String, String)>) -> bool {
        self.0.retain(|reference, _| references.contains(reference));
        let mut changed = false;
        for reference in references {
            let path: PathBuf = directory.join(&reference.0).join(&reference.1);
            let metadata = std::fs::metadata(path).ok();
            let stamp = metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
            let before = self.0.insert(reference.clone(), stamp);
            changed |= before.is_some_and(|before| before != stamp);
        }
        changed
    }
}

/// Reads a password from `DIRECTORY/NAME/KEY`, without the line's end.
pub(crate) fn read(directory: &Path, reference: &SecretKeyRef) -> Result<String, String> {
    let plain = |part: &str| !part.is_empty() && part != ".." && part != "." && !part.contains('/');
    if !plain(&reference.name) || !plain(&reference.key) {
        return Err(format!("'{}/{}' does not name a secret", reference.name, reference.key));
    }
    let path = directory.join(&reference.name).join(&reference.key);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}; write the password to that file", path.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.len() {
        0 => Err(format!("{} is empty; write the password to it", path.display())),
        // The kernel's limit, TCP_MD5SIG_MAXKEYLEN.
        1..=80 => Ok(password.to_owned()),
        len => Err(format!("the password in {} has {len} bytes; TCP-MD5 takes at most 80", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_appears_changes_or_goes_is_noticed_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut stamps = Stamps::default();
        let named = BTreeSet::from([("tor".to_owned(), "password".to_owned())]);
        assert!(!stamps.changed(directory.path(), &named), "the first look");
        std::fs::create_dir(directory.path().join("tor")).expect("a directory");
        for text in ["first", "second one"] {
            std::fs::write(directory.path().join("tor/password"), text).expect("a file");
            assert!(stamps.changed(directory.path(), &named), "{text}");
            assert!(!stamps.changed(directory.path(), &named), "{text} again");
        }
        std::fs::remove_file(directory.path().join("tor/password")).expect("removed");
        assert!(stamps.changed(directory.path(), &named));
        assert!(!stamps.changed(directory.path(), &BTreeSet::new()));
    }

    #[test]
    fn a_password_is_the_files_text_and_nothing_outside_of_the_directory_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let read = |name: &str, key: &str| {
            read(directory.path(), &SecretKeyRef { name: name.to_owned(), key: key.to_owned() })
        };
        std::fs::create_dir(directory.path().join("tor")).expect("a directory");
        std::fs::write(directory.path().join("tor/password"), "secret\n").expect("a file");
        std::fs::write(directory.path().join("tor/long"), "x".repeat(81)).expect("a file");
        assert_eq!(read("tor", "password").as_deref(), Ok("secret"));
        assert!(read("tor", "long").expect_err("too long").contains("81 bytes"));
        assert!(read("tor", "none").expect_err("not there").contains("tor/none"));
        assert!(read("..", "password").is_err() && read("tor", "a/b").is_err());
    }
}
