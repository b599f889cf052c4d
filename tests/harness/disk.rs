//! Places without room: a small disk that a ballast fills, and a limit on how long a process' files may get.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use rlimit::Resource;
use tempfile::TempDir;

use crate::Node;

/// A tmpfs of its own; gone when it is dropped.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    ///
    /// # Panics
    /// Where there is no temporary folder, or no `mount`.
    #[must_use]
    pub fn mount(kibibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={kibibytes}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        mount.expect("`mount`").status.success().then_some(Self { folder })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all the room that is left.
    ///
    /// # Panics
    /// Where that takes no end.
    pub fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("a file");
        let end = (0..1_000_000).find(|_| ballast.write_all(&[7; 4096]).is_err());
        assert!(end.is_some(), "a small disk gets full");
    }

    /// # Panics
    /// Where it was not full.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("a ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still has a file open there keeps nothing else from going.
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// No file of the node's process may grow beyond this; `None`: however long.
///
/// # Panics
/// Where the system does not take it.
pub fn limit_files(node: &Node, bytes: Option<u64>) {
    let pid = i32::try_from(node.pid().expect("the node runs")).expect("a pid");
    let soft = bytes.unwrap_or(rlimit::INFINITY);
    rlimit::prlimit(pid, Resource::FSIZE, Some((soft, rlimit::INFINITY)), None).expect("a limit");
}
