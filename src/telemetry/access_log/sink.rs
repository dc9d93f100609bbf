//! The file or stream that lines go to.
//!
//! Floor 2. Opens, rotates, compresses what was rotated on a thread of its own, notices when somebody moved the file. Every
//! error is the caller's to count.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::sink::Destination;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    /// Standard output.
    Stdout(File),
    /// A file.
    File(LogFile),
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
    /// Device and inode, to tell whether `path` still names it.
    identity: (u64, u64),
    size: u64,
    /// When its first line was written, as far as anybody knows.
    began: SystemTime,
    /// Devices and pipes are never rotated nor looked after.
    regular: bool,
    /// Compresses the file that was rotated last.
    packing: Option<JoinHandle<io::Result<()>>>,
}

impl Sink {
    /// Opens what `to` names.
    pub(super) fn open(to: &Destination) -> io::Result<Self> {
        match to {
            Destination::File(file) => Ok(Self::File(LogFile::open(&file.path)?)),
            // The descriptor itself: `io::Stdout` would keep a second buffer and half lines of a failed write. What is not of
            // this machine is never opened here.
            _ => Ok(Self::Stdout(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
        }
    }

    /// Writes as much as it takes at once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(file) => file.write(bytes),
            Self::File(log) => {
                let written = log.file.write(bytes)?;
                log.size += written as u64;
                Ok(written)
            }
        }
    }

    /// Bytes in the file; `None` for what has no size.
    pub(super) const fn size(&self) -> Option<u64> {
        match self {
            Self::File(log) if log.regular => Some(log.size),
            Self::Stdout(_) | Self::File(_) => None,
        }
    }

    /// Whether the path names another file, or none, by now.
    pub(super) fn was_moved(&self) -> bool {
        match self {
            Self::File(log) if log.regular => {
                fs::metadata(&log.path).map_or(true, |now| (now.dev(), now.ino()) != log.identity)
            }
            Self::Stdout(_) | Self::File(_) => false,
        }
    }

    /// Whether the file is older than `age` and has something in it.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        match self {
            Self::File(log) if log.regular && log.size > 0 => log.began.elapsed().is_ok_and(|since| since >= age),
            Self::Stdout(_) | Self::File(_) => false,
        }
    }

    /// Whether the file that was rotated last is still being compressed: until then nothing can be rotated.
    pub(super) fn is_packing(&self) -> bool {
        match self {
            Self::File(log) => log.packing.as_ref().is_some_and(|packing| !packing.is_finished()),
            Self::Stdout(_) => false,
        }
    }

    /// Moves the file to `.1`, `.1` to `.2` and so on; what would become `.keep + 1` goes. Opens a new one. With `gzip`, `.1`
    /// becomes `.1.gz` by and by.
    pub(super) fn rotate(&mut self, keep: u32, gzip: bool) -> io::Result<()> {
        let Self::File(log) = self else { return Ok(()) };
        let packed = log.packing.take().map_or(Ok(()), |packing| packing.join().unwrap_or(Ok(())));
        if keep == 0 {
            fs::remove_file(&log.path)?;
        } else {
            // From the first gap downwards nothing needs to move.
            let gap = (1..=keep).find(|index| rotated(&log.path, *index).is_none()).unwrap_or(keep);
            if let Some((oldest, _)) = rotated(&log.path, gap) {
                fs::remove_file(oldest)?;
            }
            for index in (1..gap).rev() {
                if let Some((from, ending)) = rotated(&log.path, index) {
                    fs::rename(from, numbered(&log.path, index + 1, ending))?;
                }
            }
            fs::rename(&log.path, numbered(&log.path, 1, ""))?;
        }
        *log = LogFile::open(&log.path)?;
        if gzip && keep > 0 {
            let plain = numbered(&log.path, 1, "");
            let name = "log-gzip".to_owned();
            log.packing = Some(thread::Builder::new().name(name).spawn(move || pack(&plain))?);
        }
        packed
    }
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        // Group may read it, others not: it names people's addresses.
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            began: metadata.created().unwrap_or_else(|_| SystemTime::now()),
            regular: metadata.is_file(),
            packing: None,
            file,
        })
    }
}

/// `path.index` and an ending.
fn numbered(path: &Path, index: u32, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}{ending}"));
    PathBuf::from(name)
}

/// The rotated file of that number, and its ending.
fn rotated(path: &Path, index: u32) -> Option<(PathBuf, &'static str)> {
    ["", ".gz"].into_iter().map(|ending| (numbered(path, index, ending), ending)).find(|(path, _)| path.exists())
}

/// Compresses `plain` to `plain.gz`; whatever happens, one of the two is whole.
fn pack(plain: &Path) -> io::Result<()> {
    let named = |ending: &str| {
        let mut name = plain.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (part, packed) = (named(".part"), named(".gz"));
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&part)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut File::open(plain)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(part, packed)?;
    fs::remove_file(plain)
}
