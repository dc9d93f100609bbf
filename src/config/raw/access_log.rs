//! `[access_log]` as written.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::findings::Severity;
use super::super::process::AccessLog;
use super::super::sink::{Batch, Destination, LogFile, LogFormat, QUEUE_MEMORY, Select, Sink};
use super::key::{Entry, Key, May, Or, Section, Table, section};
use super::kinds::{Bytes, Choice, File, PLACE, TIB, Whole, bytes, choice, whole};
use super::shapes::{At, List, Sub, list, sub};
use super::sheet::Words;
use super::sink::{FORMATS, SINK, sink};
use crate::config::Route;
use crate::lexicon::{RouteName, SinkName};

section! {
    /// Where the records of exchanges and tunnels go. `target` or `path` is the short way to one sink of this machine, named
    /// `local`; `sinks` are any number of them, with `local` beside them only if one of the two is written.
    pub(super) ACCESS_LOG: AccessLogKeys {
        /// `stdout`, or `off`. With `path`, leave it out.
        target: Choice<bool> = choice(&[("stdout", true), ("off", false)]), Or("'stdout'");
        /// File to write instead. It is opened again on SIGUSR1, and when it was moved away.
        path: File = PLACE, May("none");
        /// Format of `local`. `json`: one object a line. `otel`: the same with OpenTelemetry's names. `combined`: Apache's
        /// format. `logfmt`: `key=value` pairs.
        format: Choice<LogFormat> = choice(&FORMATS), Or("'json'");
        /// Size at which a file is rotated; 0 never.
        rotate_size: Bytes<u64> = bytes(0, TIB), Or("'100MiB'");
        /// Rotated files kept.
        rotate_keep: Whole<u32> = whole(0, 1_000), Or("5");
        /// Records that may wait in each worker, and for `local`; beyond it they are dropped and counted. Needs a restart.
        queue: Whole<usize> = whole(16, 1_000_000), Or("8_192");
        /// Sinks, each with its own format, choice and, if it is on another machine, spool.
        sinks: List<Sub<Sink>> = list(sub(&SINK, sink)).headed("[[access_log.sinks]]"), Or("[]");
    }
}

/// What `[access_log]` means.
pub(super) fn access_log(table: &Table<'_>) -> Option<AccessLog> {
    let (target, path) = (table.get(&ACCESS_LOG.target), table.get(&ACCESS_LOG.path));
    let format = table.get(&ACCESS_LOG.format);
    let (rotate_size, rotate_keep) = (table.get(&ACCESS_LOG.rotate_size), table.get(&ACCESS_LOG.rotate_keep));
    let (queue, sinks) = (table.get(&ACCESS_LOG.queue), table.get(&ACCESS_LOG.sinks));
    if table.has(&ACCESS_LOG.path) && table.has(&ACCESS_LOG.target) {
        table.error(&ACCESS_LOG.target, Words::new("contradicts `path`").help("remove one of the two"));
    }
    if !table.has(&ACCESS_LOG.path) && table.has(&ACCESS_LOG.rotate_size) {
        table.warn(&ACCESS_LOG.rotate_size, Words::new("has no effect without `path`"));
    }
    let mut sinks = sinks?;
    let short = table.has(&ACCESS_LOG.path) || (table.has(&ACCESS_LOG.target) && target?) || sinks.is_empty();
    if !short && table.has(&ACCESS_LOG.format) {
        let words = Words::new("has no effect on `sinks`, which have their own");
        table.warn(&ACCESS_LOG.format, words.help("`target` or `path` adds the sink `local`"));
    }
    let path: Option<PathBuf> = path?;
    let file = LogFile {
        path: path.clone().unwrap_or_default(),
        rotate_size: rotate_size?,
        rotate_every: None,
        rotate_keep: rotate_keep?,
        gzip: false,
    };
    let queue = queue?;
    if short && target? {
        let to = path.map_or(Destination::Stdout, |_| Destination::File(file));
        let value = local(to, format?, queue);
        sinks.insert(0, At { value, place: table.place(&ACCESS_LOG.sinks) });
    }
    distinct(table, &sinks)?;
    Some(AccessLog { sinks: sinks.into_iter().map(|sink| sink.value).collect(), queue })
}

/// The sink that `[access_log]` itself describes.
fn local(to: Destination, format: LogFormat, queue: usize) -> Sink {
    Sink {
        name: SinkName::new("local"),
        to,
        format,
        select: Select::default(),
        anonymise: None,
        redact_emails: true,
        queue,
        queue_memory: QUEUE_MEMORY,
        batch: Batch::default(),
        spool: None,
    }
}

/// No two sinks have one name or one file.
fn distinct(table: &Table<'_>, sinks: &[At<Sink>]) -> Option<()> {
    let mut fine = Some(());
    for (at, sink) in sinks.iter().enumerate() {
        let before = sinks.get(..at).unwrap_or_default();
        let problem = if before.iter().any(|other| other.value.name == sink.value.name) {
            format!("has the name `{}`, as another sink has", sink.value.name)
        } else if before.iter().any(|other| {
            let file = sink.value.to.file().map(|file| &file.path);
            file.is_some() && other.value.to.file().map(|file| &file.path) == file
        }) {
            "writes the file of another sink".into()
        } else {
            continue;
        };
        let words = Words::new(problem).expected("one of its own");
        table.written.sheet.report(Severity::Error, &sink.place, words);
        fine = None;
    }
    fine
}

/// Filters name routes that are there.
pub(super) fn know_routes(root: &Table<'_>, log: Option<&AccessLog>, routes: &[Arc<Route>]) -> Option<()> {
    let mut fine = Some(());
    for sink in log.iter().flat_map(|log| &log.sinks) {
        let unknown = |name: &&RouteName| !routes.iter().any(|route| route.name == **name);
        for name in sink.select.routes.iter().filter(unknown) {
            let known = routes.iter().map(|route| route.name.as_str());
            let words = Words::new(format!("has a sink `{}` with a filter for `{name}`, which is no route", sink.name));
            root.error(&super::ROOT.access_log, words.near(name.as_str(), known));
            fine = None;
        }
    }
    fine
}
