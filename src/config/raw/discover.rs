//! `[pools.NAME.discover]` as written.

use super::super::pool::{Discover, OnEmpty, Record};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{Choice, DAY, HOUR, Lasting, Parsed, Whole, choice, lasting, parsed, whole};
use super::sheet::Words;
use super::words::{host_name, name};
use crate::lexicon::ZoneName;

section! {
    /// Endpoints that DNS names, such as those of a headless service in Kubernetes. Those that leave an answer finish
    /// what they have and get nothing new. When name servers are silent, the last good answer counts.
    pub(super) DISCOVER: DiscoverKeys {
        /// Name to ask for; one that ends with a dot is not tried under the search domains of `/etc/resolv.conf`.
        name: Parsed<String> = parsed("host name", host_name), Must();
        /// Kind of record: `address` (A and AAAA) or `srv`, which also tells ports and weights.
        record: Choice<Record> =
            choice(&[("address", Record::Address), ("srv", Record::Service)]), May("srv for names that begin with `_`, else address");
        /// Port of endpoints found by address.
        port: Whole<u16> = whole(1, 65_535), May("that of the srv record; needed for addresses");
        /// Failure domain of every endpoint found.
        zone: Parsed<String> = parsed("name", name), May("none");
        /// Shortest time between two questions, whatever the records' time to live; also the first wait after a failure.
        min_ttl: Lasting = lasting(100, HOUR), Or("'5s'");
        /// Longest time between two questions.
        max_ttl: Lasting = lasting(100, DAY), Or("'60s'");
        /// Endpoints taken from one answer; the rest of a longer one is left.
        max_endpoints: Whole<usize> = whole(1, 1_000), Or("64");
        /// What an answer without endpoints (no such name, no record) does: `keep` those of the last good answer, or
        /// `remove` them.
        on_empty: Choice<OnEmpty> = choice(&[("keep", OnEmpty::Keep), ("remove", OnEmpty::Remove)]), Or("'keep'");
    }
}

/// What `discover` means.
pub(super) fn discover(table: &Table<'_>) -> Option<Discover> {
    let discovered = table.get(&DISCOVER.name);
    let record = table.get(&DISCOVER.record);
    let port = table.get(&DISCOVER.port);
    let zone = table.get(&DISCOVER.zone);
    let (min_ttl, max_ttl) = (table.get(&DISCOVER.min_ttl), table.get(&DISCOVER.max_ttl));
    let max_endpoints = table.get(&DISCOVER.max_endpoints);
    let on_empty = table.get(&DISCOVER.on_empty);

    let (discovered, port) = (discovered?, port?);
    let by_name = if discovered.starts_with('_') { Record::Service } else { Record::Address };
    let record = record?.unwrap_or(by_name);
    match (record, port) {
        (Record::Address, None) => {
            table.error(&DISCOVER.port, Words::new("is missing").expected("the port of the endpoints"));
            return None;
        }
        (Record::Service, Some(_)) => {
            table.warn(&DISCOVER.port, Words::new("has no effect: srv records tell the port"));
        }
        (Record::Address, Some(_)) | (Record::Service, None) => {}
    }
    let (min_ttl, max_ttl) = (min_ttl?, max_ttl?);
    if min_ttl > max_ttl {
        table.error(&DISCOVER.min_ttl, Words::new("is above `max_ttl`").expected("at most `max_ttl`"));
        return None;
    }
    Some(Discover {
        name: discovered,
        record,
        port: port.unwrap_or_default(),
        zone: zone?.map(|zone| ZoneName::new(&zone)),
        near: false,
        min_ttl,
        max_ttl,
        max_endpoints: max_endpoints?,
        on_empty: on_empty?,
    })
}
