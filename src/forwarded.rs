//! Who the client is, as far as trusted proxies in front of us tell.
//!
//! Floor 2, pure. In: the transport's address, the request's fields, the trusted networks. Out: one address. Called by
//! `pipeline::identify`. A chain is read from its right end, where the proxies wrote; the first address that is not a
//! trusted proxy is the client. What stands left of it was written by the client and means nothing. Deliberately
//! absent: reading RFC 7239 `Forwarded` (two sources for one fact disagree), host names.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use ipnet::IpNet;

use crate::head::{Fields, HeaderValue};

/// Entries of a chain that are read at most. A longer chain of trusted proxies ends at its last good address.
const MAX_HOPS: usize = 32;

/// Longest entry that can be an address: a full IPv6 address with brackets, port and quotes.
const MAX_ENTRY: usize = 64;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client's address. `peer` is what the transport says (PROXY header, else socket).
///
/// Fields are believed only from a trusted peer. The chain is `X-Forwarded-For` over all its lines, read from the
/// right; an entry that is no address ends the reading, and the last good address is the answer. Work is bounded by 32
/// entries, whatever was sent. IPv4 mapped into IPv6 becomes IPv4.
pub fn client(peer: IpAddr, headers: &Fields, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    let entries = headers
        .get_all(X_FORWARDED_FOR)
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','))
        .take(MAX_HOPS);
    for entry in entries {
        if !is_trusted(client, trusted) {
            break;
        }
        let entry = entry.trim_ascii();
        // RFC 9110 §5.6.1.2: empty list elements are ignored.
        if entry.is_empty() {
            continue;
        }
        match address(entry) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Whether `address` belongs to a trusted proxy.
pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The scheme that a trusted peer reports in `X-Forwarded-Proto`, for a load balancer in front that ends TLS. The last
/// value counts, since a proxy appends; `None` when there is none of use, or the peer is not trusted.
pub fn scheme(peer: IpAddr, headers: &Fields, trusted: &[IpNet]) -> Option<&'static str> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    let line = headers.get_all(X_FORWARDED_PROTO).next_back()?;
    let last = line.as_bytes().rsplit(|byte| *byte == b',').next()?.trim_ascii();
    ["https", "http"].into_iter().find(|scheme| last.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// One entry: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`, quoted or not.
fn address(entry: &[u8]) -> Option<IpAddr> {
    if entry.len() > MAX_ENTRY {
        return None;
    }
    let entry = std::str::from_utf8(entry).ok()?;
    let entry = entry.strip_prefix('"').and_then(|entry| entry.strip_suffix('"')).unwrap_or(entry);
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']'));
    let address = match bare {
        Some(bracketed) => IpAddr::V6(bracketed.parse().ok()?),
        None => entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?,
    };
    Some(address.to_canonical())
}

/// The value of RFC 7239 `Forwarded` for one hop. `host` as the client named it, valid per `headers::Host`.
pub fn forwarded_value(client: IpAddr, host: Option<&str>, scheme: &str) -> Option<HeaderValue> {
    // RFC 7239 §6: an IPv6 address stands in brackets, and then in quotes, as `[` and `:` are no token characters.
    let node = match client.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let host = match host {
        Some(host) => format!(";host={}", quoted(host)?),
        None => String::new(),
    };
    HeaderValue::try_from(format!("for={node}{host};proto={scheme}")).ok()
}

/// RFC 7239 §4: a value is a token or a quoted string. `None` for what neither can carry in one line.
fn quoted(value: &str) -> Option<Cow<'_, str>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if !value.is_empty() && value.bytes().all(is_token) {
        return Some(value.into());
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    value.bytes().all(is_plain).then(|| format!("\"{value}\"").into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chain(lines: &[&str]) -> Fields {
        lines.iter().map(|line| (X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap())).collect()
    }

    fn found(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client(peer.parse().unwrap(), &chain(lines), &trusted).to_string()
    }

    #[test]
    fn untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(found("203.0.113.9", &["1.1.1.1", "10.0.0.1"]), "203.0.113.9");
    }

    #[test]
    fn rightmost_untrusted_address_is_the_client() {
        assert_eq!(found("10.0.0.1", &["6.6.6.6, 198.51.100.4, 10.0.0.2"]), "198.51.100.4");
        assert_eq!(found("10.0.0.1", &["6.6.6.6", "198.51.100.4,10.0.0.3", "10.0.0.2"]), "198.51.100.4");
        assert_eq!(found("::ffff:10.0.0.1", &["::ffff:198.51.100.4"]), "198.51.100.4");
    }

    #[test]
    fn chain_of_trusted_proxies_ends_at_its_left() {
        assert_eq!(found("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(found("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn addresses_may_have_brackets_ports_and_quotes() {
        for (entry, address) in [
            ("198.51.100.4:4711", "198.51.100.4"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("\"[2001:db8::1]:4711\"", "2001:db8::1"),
            (" ,\t198.51.100.4 , ", "198.51.100.4"),
        ] {
            assert_eq!(found("10.0.0.1", &[entry]), address, "{entry}");
        }
    }

    #[test]
    fn garbage_ends_the_reading_at_the_last_good_address() {
        for garbage in ["unknown", "_hidden", "fe80::1%eth0", "198.51.100", "[198.51.100.4]", "a b", "1.1.1.1;"] {
            assert_eq!(found("10.0.0.1", &[&format!("6.6.6.6, {garbage}, 10.0.0.2")]), "10.0.0.2", "{garbage}");
        }
    }

    #[test]
    fn hostile_chain_costs_a_bounded_number_of_entries() {
        assert_eq!(found("10.0.0.1", &[&format!("6.6.6.6{}", ",10.0.0.2".repeat(7_000))]), "10.0.0.2");
        assert_eq!(found("10.0.0.1", &[&format!("6.6.6.6{}", ",".repeat(60_000))]), "10.0.0.1");
    }

    #[test]
    fn scheme_is_believed_from_trusted_peers_only_and_the_last_counts() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let headers = |value| Fields::from_iter([(X_FORWARDED_PROTO, HeaderValue::from_static(value))]);
        let told = |peer: &str, value| scheme(peer.parse().unwrap(), &headers(value), &trusted);

        assert_eq!(told("10.0.0.1", "HTTPS"), Some("https"));
        assert_eq!(told("10.0.0.1", "https, http"), Some("http"));
        assert_eq!(told("10.0.0.1", "gopher"), None);
        assert_eq!(told("203.0.113.9", "https"), None);
    }

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        let value = |client: &str, host| forwarded_value(client.parse().unwrap(), host, "https").unwrap();

        assert_eq!(value("192.0.2.1", Some("bi.example")), "for=192.0.2.1;host=bi.example;proto=https");
        assert_eq!(value("2001:db8::1", Some("bi:8443")), "for=\"[2001:db8::1]\";host=\"bi:8443\";proto=https");
        assert_eq!(value("192.0.2.1", None), "for=192.0.2.1;proto=https");
        assert!(forwarded_value("192.0.2.1".parse().unwrap(), Some("a\"b"), "https").is_none());
    }

    proptest! {
        #[test]
        fn answer_is_the_peer_or_an_address_of_the_chain(lines in prop::collection::vec("[0-9a-f:., \\[\\]\"]{0,60}", 0..4)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let answer = found("10.0.0.1", &lines);

            let entries = lines.iter().flat_map(|line| line.split(',')).filter_map(|entry| address(entry.trim().as_bytes()));
            prop_assert!(answer == "10.0.0.1" || entries.map(|entry| entry.to_string()).any(|entry| entry == answer));
        }

        #[test]
        fn what_a_client_prepends_changes_nothing(forged in "[0-9.:a-f, ]{0,80}") {
            prop_assert_eq!(found("10.0.0.1", &[&format!("{forged}, 198.51.100.4, 10.0.0.2")]), "198.51.100.4");
        }
    }
}
