use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

/// The folder that holds `margayd`, `margayctl` and `margay-cni`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Finds the release build: `MARGAY_BIN_DIR` if set, else the `release` folder of the target folder that the
    /// running program is in.
    pub fn locate() -> Result<Binaries> {
        if let Some(dir) = std::env::var_os("MARGAY_BIN_DIR") {
            return Ok(Binaries { dir: dir.into() });
        }
        let exe = std::env::current_exe()?;
        let dir = release_folder(&exe)
            .ok_or_else(|| anyhow!("{} is in no cargo target folder; set MARGAY_BIN_DIR", exe.display()))?;
        Ok(Binaries { dir })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of one program; an error with advice if it isn't built.
    pub fn path(&self, program: &str) -> Result<PathBuf> {
        let path = self.dir.join(program);
        if path.is_file() {
            Ok(path)
        } else {
            Err(anyhow!("{} isn't built: run cargo build --release, or set MARGAY_BIN_DIR", path.display()))
        }
    }
}

fn release_folder(exe: &Path) -> Option<PathBuf> {
    let profile = exe.ancestors().skip(1).find(|dir| dir.join("deps").is_dir() && dir.join(".fingerprint").is_dir())?;
    Some(profile.parent()?.join("release"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_test_finds_the_release_folder_beside_its_own_profile() {
        let dir = release_folder(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(dir.file_name().unwrap(), "release");
    }
}
