//! Messages of syslog.
//!
//! Floor 2, pure. RFC 5424 §6; how messages are told apart on a stream is the wrap's.

use crate::config;
use crate::telemetry::format::stamp::Stamp;
use crate::telemetry::record::Record;

/// What messages say of where they come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Machine {
    /// The host's name; `-` if nobody knows it.
    pub host: String,
    /// The process.
    pub process: u32,
}

/// Makes messages.
#[derive(Debug)]
pub(super) struct Syslog {
    facility: u32,
    /// Host, application and process.
    origin: String,
    id_element: Option<String>,
    longest: usize,
}

impl Syslog {
    pub(super) fn new(config: &config::sink::Syslog, machine: &Machine) -> Self {
        // RFC 5424 §6.2.4: visible ASCII, at most 255.
        let host: String = machine.host.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-" } else { &host };
        Self {
            facility: config.facility.into(),
            origin: format!(" {host} {} {} ", config.app, machine.process),
            id_element: config.id_element.clone(),
            longest: config.longest,
        }
    }

    pub(super) fn message(&self, record: &Record, stamp: &mut Stamp, line: &[u8], out: &mut Vec<u8>) {
        let priority = self.facility * 8 + severity(record);
        out.extend_from_slice(format!("<{priority}>1 ").as_bytes());
        stamp.write(record.at, out);
        out.extend_from_slice(self.origin.as_bytes());
        out.extend_from_slice(record.kind.as_str().as_bytes());
        match &self.id_element {
            // The id has no character that needs escaping.
            Some(name) => out.extend_from_slice(format!(" [{name} id=\"{}\"] ", record.id).as_bytes()),
            None => out.extend_from_slice(b" - "),
        }
        out.extend_from_slice(line);
        out.truncate(self.longest);
    }
}

/// RFC 5424 §6.2.1: 3 error, 4 warning, 6 informational.
pub(super) fn severity(record: &Record) -> u32 {
    match record.status {
        Some(500..) => 3,
        Some(400..) | None => 4,
        Some(_) if record.fault.is_some() => 4,
        Some(_) => 6,
    }
}
