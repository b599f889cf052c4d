//! The files of a SQLite database, watched: nothing is acknowledged into what is no longer the database.
//!
//! SQLite goes on writing to files that were removed, replaced or cut off, and tells nobody. So after each commit, before its
//! answer goes out, they must be the ones that were opened, the database no shorter, and the log's last frame must stand: the
//! next write beyond a cut fills it with zeros, so that the log's length tells nothing. Whoever wrote to the database itself
//! (a checkpoint or a stranger) makes the writer drop the pages that it has read: its next commit reads what is there then.
//!
//! No file that SQLite locks is opened here: to close it would give up the locks of the whole process. The log has none.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::{
    super::{Damage, Error},
    error::says_damaged,
};

const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The last bit says in which order of bytes sums are made.
const LOG_MAGIC: u32 = 0x377f_0682;

#[derive(Debug)]
pub(super) struct Files {
    database: Opened,
    log: Opened,
    /// The index of the log, which all who use the database share.
    index: Opened,
    page: u64,
    seen: Mutex<Seen>,
    damage: Arc<watch::Sender<Damage>>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    identity: (u64, u64),
}

#[derive(Debug)]
struct Seen {
    size: u64,
    changed: (i64, i64),
    log: Log,
}

/// What a commit finds of the database's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    AsItWas,
    /// Somebody wrote to it.
    Changed,
    /// To this many bytes: it was compacted, or cut off.
    Shorter(u64),
}

impl Files {
    /// Of a database that is open and has been read. `page`: the size of its pages.
    pub(super) fn opened(path: &Path, page: u64, damage: Arc<watch::Sender<Damage>>) -> io::Result<Self> {
        // SQLite keeps the others beside what a link leads to.
        let real = fs::canonicalize(path)?;
        let beside = |suffix: &str| {
            let mut name = real.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let database = fs::metadata(path)?;
        let log = Opened::at(beside("-wal"))?;
        let file = File::open(&log.path)?;
        Ok(Self {
            seen: Mutex::new(Seen { size: database.len(), changed: changed(&database), log: Log::new(file, page) }),
            database: Opened { path: path.to_owned(), identity: identity(&database) },
            log,
            index: Opened::at(beside("-shm"))?,
            page,
            damage,
        })
    }

    /// Whether they are the ones that were opened, and nothing is known against them.
    pub(super) fn stand(&self) -> Result<(), Error> {
        self.look().map(drop)
    }

    fn look(&self) -> Result<Metadata, Error> {
        if let Some(error) = self.known() {
            return Err(error);
        }
        let database = self.same(&self.database)?;
        self.same(&self.log)?;
        self.same(&self.index)?;
        Ok(database)
    }

    fn same(&self, opened: &Opened) -> Result<Metadata, Error> {
        let path = opened.path.display();
        match fs::metadata(&opened.path) {
            Ok(now) if identity(&now) == opened.identity => Ok(now),
            Ok(_) => Err(self.damaged(&format!("{path} was replaced by another file"))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(self.damaged(&format!("{path} was removed or moved away")))
            }
            Err(error) => Err(Error::Unavailable(sqlx::Error::Io(error))),
        }
    }

    /// Of a writer, after its commit: an error means that what was committed may be lost.
    pub(super) fn committed(&self) -> Result<Found, Error> {
        let now = self.look()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.log.follow() {
            Ok(true) => {}
            Ok(false) => {
                drop(seen);
                return Err(self.damaged(&format!("{} was cut off or written over", self.log.path.display())));
            }
            Err(error) => return Err(Error::Unavailable(sqlx::Error::Io(error))),
        }
        if now.len() < seen.size {
            return Ok(Found::Shorter(now.len()));
        }
        let found = if changed(&now) == seen.changed { Found::AsItWas } else { Found::Changed };
        (seen.size, seen.changed) = (now.len(), changed(&now));
        Ok(found)
    }

    /// A file that got shorter must hold all its pages: then it was compacted (`VACUUM`).
    pub(super) fn holds(&self, size: u64, pages: u64) -> Result<(), Error> {
        let whole = pages.saturating_mul(self.page);
        if size < whole {
            let path = self.database.path.display();
            return Err(self.damaged(&format!("{path} was cut off: it has {size} bytes of {whole}")));
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).size = size;
        Ok(())
    }

    /// What an error of SQLite means while these are its files.
    pub(super) fn judge(&self, error: sqlx::Error) -> Error {
        if let Some(said) = says_damaged(&error) {
            return self.damaged(&format!("SQLite finds {} damaged: {said}", self.database.path.display()));
        }
        self.stand().err().unwrap_or_else(|| error.into())
    }

    /// The file system, and whether it is a disk of this machine; `None` where the system does not tell.
    pub(super) fn place(&self) -> Option<(String, bool)> {
        file_system(&self.database.path)
    }

    pub(super) fn known(&self) -> Option<Error> {
        self.damage.borrow().clone().map(Error::Damaged)
    }

    fn damaged(&self, what: &str) -> Error {
        let told: Arc<str> = format!(
            "{what} while this node runs: it records and calls nothing any more. Stop it, put the database right, start it \
             again: see \"A damaged database file\" in docs/operations.md"
        )
        .into();
        self.damage.send_if_modified(|damage| {
            let first = damage.is_none();
            damage.get_or_insert(Arc::clone(&told));
            first
        });
        self.known().unwrap_or(Error::Damaged(told))
    }
}

impl Opened {
    fn at(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&fs::metadata(&path)?);
        Ok(Self { path, identity })
    }
}

/// By linux/magic.h.
#[cfg(target_os = "linux")]
const REMOTE: [(i64, &str); 6] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0xff53_4d42, "CIFS"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
];

#[cfg(target_os = "linux")]
fn file_system(path: &Path) -> Option<(String, bool)> {
    let number = rustix::fs::statfs(path).ok()?.f_type;
    let remote = REMOTE.iter().find(|(remote, _)| *remote == number);
    Some(remote.map_or_else(|| ("local".to_owned(), true), |(_, name)| ((*name).to_owned(), false)))
}

#[cfg(not(target_os = "linux"))]
fn file_system(_: &Path) -> Option<(String, bool)> {
    None
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn changed(file: &Metadata) -> (i64, i64) {
    (file.ctime(), file.ctime_nsec())
}

/// The write-ahead log (<https://sqlite.org/fileformat.html#the_write_ahead_log>), read from where it was left.
#[derive(Debug)]
struct Log {
    file: File,
    page: u64,
    /// Another one: it was begun anew.
    header: [u8; LOG_HEADER],
    /// Where the last frame that ends a commit stands, and where the next one will.
    last: Option<u64>,
    next: u64,
}

impl Log {
    fn new(file: File, page: u64) -> Self {
        Self { file, page, header: [0; LOG_HEADER], last: None, next: LOG_HEADER as u64 }
    }

    /// Goes on to the end of the last commit; false if what was there before is not there any more.
    fn follow(&mut self) -> io::Result<bool> {
        // A checkpoint may have cut it to nothing. If it was a hand, the next frames will stand behind a gap.
        let size = self.file.metadata()?.len();
        if size == 0 {
            return Ok(true);
        }
        let Some(header) = self.read::<LOG_HEADER>(0)? else { return self.is_empty() };
        if u32::from_be_bytes([header[0], header[1], header[2], header[3]]) & !1 != LOG_MAGIC {
            return Ok(false);
        }
        if header != self.header {
            (self.header, self.last, self.next) = (header, None, LOG_HEADER as u64);
        }
        if let Some(last) = self.last
            && (size < self.next || self.frame(last)?.is_none())
        {
            return self.is_empty();
        }
        let mut at = self.next;
        loop {
            let next = at + FRAME_HEADER as u64 + self.page;
            // A write that failed on a full disk may have left the head of a frame without its page.
            let Some(frame) = self.frame(at)?.filter(|_| next <= size) else { return Ok(true) };
            let ends_a_commit = frame[4..8] != [0; 4];
            if ends_a_commit {
                (self.last, self.next) = (Some(at), next);
            }
            at = next;
        }
    }

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == 0)
    }

    /// One of this log's, and none that an earlier one left.
    fn frame(&self, at: u64) -> io::Result<Option<[u8; FRAME_HEADER]>> {
        Ok(self.read::<FRAME_HEADER>(at)?.filter(|frame| frame[8..16] == self.header[16..24]))
    }

    /// `None`: the file ends before.
    fn read<const LENGTH: usize>(&self, at: u64) -> io::Result<Option<[u8; LENGTH]>> {
        let mut bytes = [0; LENGTH];
        match self.file.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 512;
    const FRAME: u64 = FRAME_HEADER as u64 + PAGE;

    struct Scene {
        written: File,
        log: Log,
    }

    impl Scene {
        fn new() -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            let scene = Self { written: file.reopen().unwrap(), log: Log::new(file.into_file(), PAGE) };
            scene.begin(1);
            scene
        }

        fn begin(&self, salt: u8) {
            let mut header = [salt; LOG_HEADER];
            header[..4].copy_from_slice(&LOG_MAGIC.to_be_bytes());
            self.written.write_all_at(&header, 0).unwrap();
        }

        /// The head of a frame, and of its page as much as is asked for.
        fn frame(&self, number: u64, salt: u8, ends_a_commit: bool, page: u64) {
            let mut frame = vec![salt; FRAME_HEADER];
            frame[4..8].copy_from_slice(&u32::from(ends_a_commit).to_be_bytes());
            frame.resize(FRAME_HEADER + usize::try_from(page).unwrap(), 7);
            self.written.write_all_at(&frame, LOG_HEADER as u64 + number * FRAME).unwrap();
        }

        fn commit(&self, number: u64) {
            self.frame(number, 1, true, PAGE);
        }
    }

    #[test]
    fn a_log_that_grows_or_begins_anew_stands() {
        let mut scene = Scene::new();
        for number in 0..3 {
            scene.commit(number);
            assert!(scene.log.follow().unwrap());
        }
        scene.begin(2);
        scene.frame(0, 2, true, PAGE);
        assert!(scene.log.follow().unwrap());
        assert_eq!(scene.log.last, Some(LOG_HEADER as u64), "what the earlier log left is none of this one's");
        // A checkpoint cuts it, and the next commit begins it anew.
        scene.written.set_len(0).unwrap();
        assert!(scene.log.follow().unwrap());
        scene.begin(3);
        scene.frame(0, 3, true, PAGE);
        assert!(scene.log.follow().unwrap());
    }

    #[test]
    fn a_log_that_was_cut_is_told_also_behind_a_gap() {
        for frames_left in [0, 1] {
            let mut scene = Scene::new();
            scene.commit(0);
            scene.commit(1);
            assert!(scene.log.follow().unwrap());
            scene.written.set_len(frames_left * (LOG_HEADER as u64 + FRAME)).unwrap();
            scene.commit(2);
            assert!(!scene.log.follow().unwrap(), "{frames_left}");
        }
    }

    #[test]
    fn what_a_commit_left_that_met_a_full_disk_is_written_over() {
        let mut scene = Scene::new();
        scene.commit(0);
        assert!(scene.log.follow().unwrap());
        // Of three frames the last one did not fit; then one frame fits.
        scene.frame(1, 1, false, PAGE);
        scene.frame(2, 1, false, PAGE);
        scene.frame(3, 1, true, 100);
        scene.commit(1);
        assert!(scene.log.follow().unwrap());
        assert_eq!(scene.log.last, Some(LOG_HEADER as u64 + FRAME));
        assert!(scene.log.follow().unwrap());
        scene.commit(2);
        assert!(scene.log.follow().unwrap());
    }
}
