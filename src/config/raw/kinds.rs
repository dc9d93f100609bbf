//! Plain values: switches, numbers, durations, sizes, texts, choices, files, addresses, networks.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::mode::Mode;
use super::super::units::{ByteSize, Span};
use super::key::{Describe, Kind};
use super::sheet::{Words, Written};

/// `true` or `false`.
pub(crate) struct Flag;

impl Describe for Flag {
    fn shape(&self) -> String {
        "true or false".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "boolean" })
    }
}

impl Kind for Flag {
    type Value = bool;

    fn read(&self, written: &Written<'_>) -> Option<bool> {
        let value = written.value.as_bool();
        if value.is_none() {
            written.wrong_type(&self.shape());
        }
        value
    }
}

/// A whole number in a range.
pub(crate) struct Whole<T> {
    min: u64,
    max: u64,
    meant: PhantomData<fn() -> T>,
}

/// A whole number from `min` to `max`.
pub(crate) const fn whole<T>(min: u64, max: u64) -> Whole<T> {
    Whole { min, max, meant: PhantomData }
}

impl<T> Describe for Whole<T> {
    fn shape(&self) -> String {
        "integer".into()
    }

    fn range(&self) -> String {
        format!("{} to {}", grouped(self.min), grouped(self.max))
    }

    fn schema(&self) -> Value {
        json!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }
}

impl<T: TryFrom<u64>> Kind for Whole<T> {
    type Value = T;

    fn read(&self, written: &Written<'_>) -> Option<T> {
        let expected = || format!("an integer from {}", self.range());
        if written.value.as_integer().is_none() {
            written.wrong_type(&expected());
            return None;
        }
        let number = written.integer().and_then(|number| u64::try_from(number).ok());
        let within = number.filter(|number| (self.min..=self.max).contains(number));
        let meant = within.and_then(|number| T::try_from(number).ok());
        if meant.is_none() {
            written.refuse("is out of range", expected());
        }
        meant
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    match (number / 1_000, number % 1_000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{},{rest:03}", grouped(thousands)),
    }
}

/// A duration in a range.
pub(crate) struct Lasting {
    min: Duration,
    max: Duration,
}

/// A duration of `min` to `max` milliseconds.
pub(crate) const fn lasting(min: u64, max: u64) -> Lasting {
    Lasting { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

/// Milliseconds of a second, a minute, an hour and a day, for ranges.
pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;
pub(crate) const DAY: u64 = 24 * HOUR;

impl Describe for Lasting {
    fn shape(&self) -> String {
        "duration".into()
    }

    fn range(&self) -> String {
        format!("{} to {}", Span(self.min), Span(self.max))
    }

    fn schema(&self) -> Value {
        json!({ "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *(ms|s|m|h|d) *$" })
    }
}

impl Kind for Lasting {
    type Value = Duration;

    fn read(&self, written: &Written<'_>) -> Option<Duration> {
        let expected = || format!("a duration from {}", self.range());
        let Some(text) = written.value.as_str() else {
            let words = Words::new("is not a duration").found(written.found()).expected(expected());
            let example = written.integer().map_or_else(|| "1.5s".into(), |number| format!("{number}s"));
            written.error(words.help(format!("write a text with a unit (ms, s, m, h, d), such as \"{example}\"")));
            return None;
        };
        match text.parse::<Span>() {
            Ok(Span(duration)) if (self.min..=self.max).contains(&duration) => Some(duration),
            Ok(_) => {
                written.refuse("is out of range", expected());
                None
            }
            Err(error) => {
                let words = Words::new(error.to_string()).found(written.found()).expected(expected());
                written.error(words.help("units are ms, s, m, h and d, one per duration: \"90s\", not \"1m30s\""));
                None
            }
        }
    }
}

/// A number of bytes in a range.
pub(crate) struct Bytes<T> {
    min: u64,
    max: u64,
    meant: PhantomData<fn() -> T>,
}

/// `min` to `max` bytes.
pub(crate) const fn bytes<T>(min: u64, max: u64) -> Bytes<T> {
    Bytes { min, max, meant: PhantomData }
}

/// Bytes of a KiB, a MiB, a GiB and a TiB, for ranges.
pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const TIB: u64 = 1 << 40;

impl<T> Describe for Bytes<T> {
    fn shape(&self) -> String {
        "size".into()
    }

    fn range(&self) -> String {
        format!("{} to {}", ByteSize(self.min), ByteSize(self.max))
    }

    fn schema(&self) -> Value {
        let text = json!({ "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *(B|kB|MB|GB|KiB|MiB|GiB|TiB)? *$" });
        json!({ "anyOf": [text, { "type": "integer", "minimum": self.min, "maximum": self.max }] })
    }
}

impl<T: TryFrom<u64>> Kind for Bytes<T> {
    type Value = T;

    fn read(&self, written: &Written<'_>) -> Option<T> {
        let expected = || format!("a size from {}", self.range());
        let size = match (written.value.as_str().map(str::parse::<ByteSize>), written.integer()) {
            (Some(Ok(ByteSize(size))), _) => Some(size),
            (Some(Err(error)), _) => {
                let words = Words::new(error.to_string()).found(written.found()).expected(expected());
                written.error(words.help("units are B, KiB, MiB, GiB, TiB, and kB, MB, GB by powers of ten"));
                return None;
            }
            (None, Some(number)) => u64::try_from(number).ok(),
            (None, None) => {
                written.wrong_type(&expected());
                return None;
            }
        };
        let within = size.filter(|size| (self.min..=self.max).contains(size));
        let meant = within.and_then(|size| T::try_from(size).ok());
        if meant.is_none() {
            written.refuse("is out of range", expected());
        }
        meant
    }
}

/// A text that some function understands.
pub(crate) struct Parsed<T> {
    shape: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

/// A text; `shape` says which, `parse` returns its meaning or what is wrong with it.
pub(crate) const fn parsed<T>(shape: &'static str, parse: fn(&str) -> Result<T, String>) -> Parsed<T> {
    Parsed { shape, parse }
}

impl<T> Describe for Parsed<T> {
    fn shape(&self) -> String {
        self.shape.into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "string" })
    }
}

impl<T> Kind for Parsed<T> {
    type Value = T;

    fn read(&self, written: &Written<'_>) -> Option<T> {
        let Some(text) = written.value.as_str() else {
            written.wrong_type(self.shape);
            return None;
        };
        match (self.parse)(text) {
            Ok(meant) => Some(meant),
            Err(problem) => {
                written.refuse(&problem, self.shape);
                None
            }
        }
    }
}

/// One of a few words.
pub(crate) struct Choice<T: 'static> {
    choices: &'static [(&'static str, T)],
}

/// One of these words, each with its meaning.
pub(crate) const fn choice<T>(choices: &'static [(&'static str, T)]) -> Choice<T> {
    Choice { choices }
}

/// Whether something acts, or only says what it would do.
pub(crate) const MODE: Choice<Mode> = choice(&[("enforce", Mode::Enforce), ("observe", Mode::Observe)]);

impl<T> Choice<T> {
    fn words(&self) -> impl Iterator<Item = &'static str> {
        self.choices.iter().map(|&(word, _)| word)
    }
}

impl<T: Sync> Describe for Choice<T> {
    fn shape(&self) -> String {
        let words: Vec<String> = self.words().map(|word| format!("{word:?}")).collect();
        words.join(" or ")
    }

    fn schema(&self) -> Value {
        json!({ "enum": self.words().collect::<Vec<_>>() })
    }
}

impl<T: Clone + Sync> Kind for Choice<T> {
    type Value = T;

    fn read(&self, written: &Written<'_>) -> Option<T> {
        let Some(text) = written.value.as_str() else {
            written.wrong_type(&self.shape());
            return None;
        };
        let chosen = self.choices.iter().find(|&&(word, _)| word == text).map(|(_, meant)| meant.clone());
        if chosen.is_none() {
            let words = Words::new("is not one of the choices").found(written.found()).expected(self.shape());
            written.error(words.near(text, self.words()));
        }
        chosen
    }
}

/// A file name; relative ones belong to the configuration's directory.
pub(crate) struct File {
    watched: bool,
}

/// A file that is read: a change of it reloads the configuration.
pub(crate) const WATCHED: File = File { watched: true };
/// A file or directory that is written.
pub(crate) const PLACE: File = File { watched: false };

impl Describe for File {
    fn shape(&self) -> String {
        "file name".into()
    }

    fn schema(&self) -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

impl Kind for File {
    type Value = PathBuf;

    fn read(&self, written: &Written<'_>) -> Option<PathBuf> {
        let Some(text) = written.value.as_str() else {
            written.wrong_type("a file name");
            return None;
        };
        if text.is_empty() || text.contains('\0') {
            written.refuse("is no file name", "a file name");
            return None;
        }
        let file = written.sheet.resolve(text);
        if self.watched {
            written.sheet.watch(&file);
        }
        Some(file)
    }
}

/// What is wrong with an address that is bound.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.rsplit_once(':') {
        None => "has no port".into(),
        Some((host, _)) if host.parse::<IpAddr>().is_ok_and(|host| host.is_ipv6()) => {
            "needs brackets around its IPv6 address".into()
        }
        Some(_) => "is no IP address with a port".into(),
    })
}

/// A network; a single address stands for itself.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().map(|network| network.trunc());
    network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| "is no network such as 10.0.0.0/8".into())
}
