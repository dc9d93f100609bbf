//! The country of an address, by a database in MaxMind's format.
//!
//! Part of `waf`. In: the bytes of a database whose records have `country.iso_code`, as GeoLite2-Country, GeoLite2-City
//! and DB-IP's have. Deliberately absent: reading the file.

use std::net::IpAddr;

use maxminddb::{Reader, path};

pub use maxminddb::MaxMindDbError as BadDatabase;

/// A database.
#[derive(Debug)]
pub struct Countries(Reader<Vec<u8>>);

impl Countries {
    /// Opens a database.
    ///
    /// # Errors
    /// It is none.
    pub fn open(bytes: Vec<u8>) -> Result<Self, BadDatabase> {
        Reader::from_source(bytes).map(Self)
    }

    /// The country of `address`, as ISO 3166-1 alpha-2.
    pub fn of(&self, address: IpAddr) -> Option<[u8; 2]> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        let code: Option<&str> = found.decode_path(&path!["country", "iso_code"]).ok()?;
        code?.as_bytes().try_into().ok()
    }
}
