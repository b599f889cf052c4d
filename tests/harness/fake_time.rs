//! A clock of a process that a test sets while the process runs (libfaketime); the monotonic clock is left alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub struct FakeTime {
    folder: TempDir,
}

impl FakeTime {
    /// As it is.
    ///
    /// # Panics
    /// Where there is no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Postgres runs as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let time = Self { folder };
        time.set(0);
        time
    }

    /// The clock is this many seconds off from now on.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn set(&self, seconds: i64) {
        // Whole or not at all: it is read at any moment.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}")).expect("an offset");
        fs::rename(new, self.file()).expect("an offset");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// What puts a process on this clock.
    ///
    /// # Panics
    /// Where there is no libfaketime: a test of clocks is never skipped in silence.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let found = ["/usr/lib", "/usr/local/lib"].into_iter().find_map(|folder| library(Path::new(folder)));
        let library = found.expect("libfaketime: `tests/run` installs it, or says how");
        [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl Default for FakeTime {
    fn default() -> Self {
        Self::new()
    }
}

/// `faketime/libfaketimeMT.so.1` here, or in the folder of this architecture.
fn library(folder: &Path) -> Option<PathBuf> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders = std::iter::once(folder.to_owned()).chain(below);
    folders.find_map(|folder| Some(folder.join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file()))
}
