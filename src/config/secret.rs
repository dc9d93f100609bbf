//! Secrets: where they are, and their values once read.
//!
//! Floor 1. In: a [`SecretSource`] from the configuration. Out: a [`Secret`], which prints nothing. Read when a
//! snapshot is built, not when the file is parsed, so that `check` works where the secrets are not. Deliberately
//! absent: secrets written into the configuration itself.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A secret's whereabouts; its value is read when a snapshot is built and never printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SecretSource {
    /// The file's content, trailing line end removed.
    File(PathBuf),
    /// The environment variable of that name.
    Env(String),
}

/// A secret's value. `Debug` prints nothing of it and there is no `Display`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Vec<u8>);

/// Why a secret has no value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("secret file {} is unreadable", file.display())]
    Unreadable {
        /// The file named in the configuration.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The environment has no such variable.
    #[error("environment variable {name} is not set")]
    Unset {
        /// The variable named in the configuration.
        name: String,
    },
    /// There is a value, but it is empty or longer than 64 KiB.
    #[error("secret from {place} must have 1 byte to 64 KiB, found {found}")]
    Length {
        /// The file or variable.
        place: String,
        /// Its length in bytes.
        found: u64,
    },
}

/// Longest secret; a mistaken path must not fill the memory.
const LONGEST: u64 = 64 * 1024;

impl SecretSource {
    /// Reads the value now.
    ///
    /// # Errors
    /// The file or the variable is missing, unreadable, empty or too long.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let (place, bytes) = match self {
            Self::File(file) => (file.display().to_string(), Self::read_file(file)?),
            Self::Env(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset { name: name.clone() })?;
                (name.clone(), value.into_encoded_bytes())
            }
        };
        match u64::try_from(bytes.len()) {
            Ok(1..=LONGEST) => Ok(Secret(bytes)),
            found => Err(SecretError::Length { place, found: found.unwrap_or(u64::MAX) }),
        }
    }

    fn read_file(file: &PathBuf) -> Result<Vec<u8>, SecretError> {
        use io::Read;

        let unreadable = |source| SecretError::Unreadable { file: file.clone(), source };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(LONGEST + 3).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.ends_with(b"\n") {
            bytes.pop();
            if bytes.ends_with(b"\r") {
                bytes.pop();
            }
        }
        Ok(bytes)
    }
}

impl Secret {
    /// Whether this is the value; takes the same time wherever they differ.
    pub fn equals(&self, other: &[u8]) -> bool {
        self.0.len() == other.len()
            && self.0.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
    }

    /// The value, for the cryptography that needs it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn a_secret_file_loses_its_line_end_only() {
        for (content, value) in [(&b"s3cret\n"[..], &b"s3cret"[..]), (b"s3\ncret\r\n", b"s3\ncret"), (b" x ", b" x ")] {
            let file = file_with(content);

            let secret = SecretSource::File(file.path().into()).read().unwrap();

            assert_eq!(secret.expose(), value);
        }
    }

    #[test]
    fn a_secret_prints_nothing() {
        let file = file_with(b"hunter2");

        let secret = SecretSource::File(file.path().into()).read().unwrap();

        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
    }

    #[test]
    fn a_missing_empty_or_huge_secret_is_an_error() {
        let (empty, huge) = (file_with(b"\n"), file_with(&vec![b'x'; 1 << 20]));
        let read = |source: SecretSource| source.read().unwrap_err();

        assert!(matches!(read(SecretSource::File("/nowhere".into())), SecretError::Unreadable { .. }));
        assert!(matches!(read(SecretSource::Env("SLUICEGATE_UNSET".into())), SecretError::Unset { .. }));
        assert!(matches!(read(SecretSource::File(empty.path().into())), SecretError::Length { found: 0, .. }));
        assert!(matches!(read(SecretSource::File(huge.path().into())), SecretError::Length { .. }));
    }
}
