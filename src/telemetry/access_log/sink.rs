//! The file or stream that lines go to.
//!
//! Floor 2. Opens, rotates by size, notices when somebody moved the file. Every error is the caller's to count.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config;
use crate::config::process::LogTarget;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    /// Nowhere.
    Off,
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
    /// Devices and pipes are never rotated nor looked after.
    regular: bool,
}

impl Sink {
    /// Opens what `config` names.
    pub(super) fn open(config: &config::AccessLog) -> io::Result<Self> {
        match &config.target {
            LogTarget::Off => Ok(Self::Off),
            // The descriptor itself: `io::Stdout` would keep a second buffer and half lines of a failed write.
            LogTarget::Stdout => Ok(Self::Stdout(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
            LogTarget::File(path) => Ok(Self::File(LogFile::open(path)?)),
        }
    }

    /// Writes as much as it takes at once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Off => Ok(bytes.len()),
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
            Self::Off | Self::Stdout(_) | Self::File(_) => None,
        }
    }

    /// Whether the path names another file, or none, by now.
    pub(super) fn was_moved(&self) -> bool {
        match self {
            Self::File(log) if log.regular => {
                fs::metadata(&log.path).map_or(true, |now| (now.dev(), now.ino()) != log.identity)
            }
            Self::Off | Self::Stdout(_) | Self::File(_) => false,
        }
    }

    /// Moves the file to `.1`, `.1` to `.2` and so on; what would become `.keep + 1` goes. Opens a new one.
    pub(super) fn rotate(&mut self, keep: u32) -> io::Result<()> {
        let Self::File(log) = self else { return Ok(()) };
        if keep == 0 {
            fs::remove_file(&log.path)?;
        } else {
            // From the first gap downwards nothing needs to move.
            let gap = (1..=keep).find(|index| !numbered(&log.path, *index).exists()).unwrap_or(keep);
            for index in (1..gap).rev() {
                fs::rename(numbered(&log.path, index), numbered(&log.path, index + 1))?;
            }
            fs::rename(&log.path, numbered(&log.path, 1))?;
        }
        *log = LogFile::open(&log.path)?;
        Ok(())
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
            regular: metadata.is_file(),
            file,
        })
    }
}

/// `path.index`.
fn numbered(path: &Path, index: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    PathBuf::from(name)
}
