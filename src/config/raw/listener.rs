//! `[[listeners]]` as written.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::super::listener::{
    Certificate, ClientClocks, Hsts, Http2, Http3, Listener, RedirectToHttps, RequestLimits, Tls,
};
use super::http3::{HTTP3, http3};
use super::key::{Entry, Key, May, Must, Or, Section, Table, section};
use super::kinds::{
    Bytes, DAY, File, Flag, HOUR, KIB, Lasting, MIB, MINUTE, Parsed, SECOND, WATCHED, Whole, bytes, lasting, network,
    parsed, socket_address, whole,
};
use super::shapes::{At, List, Sub, Switch, list, sub, switch, values};
use super::sheet::{Place, Words};
use super::transport::{TLS, tls};
use super::words::{name, prefix};
use crate::lexicon::ListenerName;

section! {
    /// A set of bound addresses, and everything about the client's side of a connection.
    pub(super) LISTENER: ListenerKeys {
        /// Bound address, or a list of them: `"0.0.0.0:443"`, `"[::]:443"`. IPv6 ones never cover IPv4. Port 0 picks
        /// a free port. Needs a restart.
        address: List<Parsed<SocketAddr>> =
            list(parsed("IP address with port", socket_address)).some().or_one(), Must();
        /// Unique name; a metric label.
        name: Parsed<String> = parsed("name", name), May("the first address");
        /// Certificate chain, a PEM file with the leaf first: short for one entry of `tls.certificates`.
        certificate: File = WATCHED, May("none; without `tls` the listener speaks plain HTTP");
        /// Key of `certificate`, a PEM file.
        key: File = WATCHED, May("none");
        /// TLS, in full. Without this table and without `certificate` the listener speaks plain HTTP.
        tls: Sub<Tls> = sub(&TLS, tls), Or("{}");
        /// Networks whose connections must begin with a PROXY protocol header (v1 or v2). Connections from elsewhere
        /// are taken as they are.
        proxy_protocol: List<Parsed<IpNet>> = list(parsed("network", network)), Or("[]");
        /// Open connections on this listener; beyond it new ones are refused at once and counted.
        max_connections: Whole<usize> = whole(1, 10_000_000), Or("10_000");
        /// Open connections per client address.
        max_connections_per_client: Whole<usize> = whole(1, 10_000_000), Or("1_000");
        /// Open tunnels (WebSockets) per client address.
        max_tunnels_per_client: Whole<usize> = whole(0, 10_000_000), Or("200");
        /// Open HTTP/2 and HTTP/3 streams per client address, over all its connections. Beyond it: 429
        /// `too_many_streams`.
        max_streams_per_client: Whole<usize> = whole(1, 10_000_000), Or("4_096");
        /// Streams that a client address resets within a minute before they are answered, beyond those that were
        /// answered on the same connections. Beyond it: `shield.rapid_reset`, and the connection is asked to end.
        max_resets_per_client: Whole<u32> = whole(1, 1_000_000), Or("1_000");
        /// Plain listeners: answer with a redirect (308) to HTTPS.
        redirect_to_https: Switch<Sub<RedirectToHttps>> = switch(sub(&REDIRECT, redirect)), Or("false");
        /// `Strict-Transport-Security` (RFC 6797) on answers over TLS. `false` leaves Superset's own.
        hsts: Switch<Sub<Hsts>> = switch(sub(&HSTS, hsts)), Or("false");
        /// Bounds on the size and pace of requests.
        limits: Sub<(RequestLimits, u64, u64)> = sub(&LIMITS, limits), Or("{}");
        /// Clocks on the client's side.
        timeouts: Sub<Timeouts> = sub(&TIMEOUTS, timeouts), Or("{}");
        /// HTTP/2 and its bounds.
        http2: Sub<Http2> = sub(&HTTP2, http2), Or("{}");
        /// HTTP/3 on UDP at the same addresses, which answers over TCP name in `Alt-Svc`. Listeners with TLS only. To
        /// switch it on or off needs a restart.
        http3: Switch<Sub<Http3>> = switch(sub(&HTTP3, http3)), Or("true");
        /// Age after which a connection is asked to end at its next answer, so that load spreads again.
        max_connection_age: Lasting = lasting(MINUTE, 7 * DAY), Or("'1h'");
    }
}

/// What a listener means.
pub(super) fn listener(table: &Table<'_>) -> Option<Draft> {
    let addresses = table.get(&LISTENER.address);
    let name = table.get(&LISTENER.name);
    let tls = transport(table);
    let proxy_protocol = table.get(&LISTENER.proxy_protocol).map(values);
    let max_connections = table.get(&LISTENER.max_connections);
    let max_connections_per_client = table.get(&LISTENER.max_connections_per_client);
    let max_tunnels_per_client = table.get(&LISTENER.max_tunnels_per_client);
    let max_streams_per_client = table.get(&LISTENER.max_streams_per_client);
    let max_resets_per_client = table.get(&LISTENER.max_resets_per_client);
    let redirect_to_https = table.get(&LISTENER.redirect_to_https);
    let hsts = table.get(&LISTENER.hsts);
    let limits = table.get(&LISTENER.limits);
    let timeouts = table.get(&LISTENER.timeouts);
    let http2 = table.get(&LISTENER.http2);
    let http3 = table.get(&LISTENER.http3);
    let max_connection_age = table.get(&LISTENER.max_connection_age);

    if proxy_protocol.iter().flatten().any(|network: &IpNet| network.prefix_len() == 0) {
        let words = Words::new("lets everybody claim any address").expected("the networks of your load balancers");
        table.warn(&LISTENER.proxy_protocol, words);
    }
    let encrypted = tls.as_ref().map(Option::is_some);
    if encrypted == Some(true) && matches!(redirect_to_https, Some(Some(_))) {
        let words = Words::new("belongs to a plain listener, and this one speaks TLS: it would redirect to itself");
        table.error(&LISTENER.redirect_to_https, words);
    }
    if encrypted == Some(false) && matches!(hsts, Some(Some(_))) {
        let words = Words::new("has no effect on a plain listener").help("RFC 6797 §7.2: never sent without TLS");
        table.warn(&LISTENER.hsts, words);
    }
    if encrypted == Some(true) && http2.as_ref().is_some_and(|http2: &Http2| http2.cleartext) {
        table.warn(&LISTENER.http2, Words::new("has `cleartext`, which has no effect on a TLS listener"));
    }
    if encrypted == Some(false) && table.has(&LISTENER.http3) && matches!(http3, Some(Some(_))) {
        let words = Words::new("needs TLS, and this listener is plain").expected("`certificate` and `key`");
        table.error(&LISTENER.http3, words.help("RFC 9001: QUIC has no unencrypted form"));
    }
    let addresses: Vec<At<SocketAddr>> = addresses?;
    let first = addresses.first().map(|at| at.value.to_string());
    let (limits, min_body_rate, min_response_rate) = limits?;
    let timeouts = timeouts?;
    let (name, given) = (name?, table.has(&LISTENER.name));
    Some(Draft {
        name: At { value: given, place: table.place(&LISTENER.name) },
        places: addresses.iter().map(|at| at.place.clone()).collect(),
        listener: Listener {
            name: ListenerName::new(&name.or(first).unwrap_or_default()),
            addresses: values(addresses),
            tls: tls?,
            proxy_protocol: proxy_protocol?,
            max_connections: max_connections?,
            max_connections_per_client: max_connections_per_client?,
            max_tunnels_per_client: max_tunnels_per_client?,
            max_streams_per_client: max_streams_per_client?,
            max_resets_per_client: max_resets_per_client?,
            redirect_to_https: redirect_to_https?,
            hsts: hsts?,
            limits,
            clocks: ClientClocks {
                head: timeouts.head,
                body_idle: timeouts.body_idle,
                write_idle: timeouts.write_idle,
                keep_alive: timeouts.keep_alive,
                min_body_rate,
                min_response_rate,
            },
            http2: http2?,
            http3: http3?.filter(|_| encrypted == Some(true)),
            max_connection_age: max_connection_age?,
        },
    })
}

/// A listener, with the places that checks across listeners need.
pub(super) struct Draft {
    pub(super) listener: Listener,
    /// Whether the name is written.
    pub(super) name: At<bool>,
    /// One for each address.
    pub(super) places: Vec<Place>,
}

/// TLS from its short and its full form.
fn transport(table: &Table<'_>) -> Option<Option<Tls>> {
    let certificate = table.get(&LISTENER.certificate);
    let key = table.get(&LISTENER.key);
    let tls = table.get(&LISTENER.tls);
    let short = match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(Certificate { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            table.error(&LISTENER.certificate, Words::new("has no `key`").help("name the key's PEM file in `key`"));
            return None;
        }
        (None, Some(_)) => {
            table.error(&LISTENER.key, Words::new("has no `certificate`").help("name its PEM file in `certificate`"));
            return None;
        }
    };
    let mut tls: Tls = tls?;
    if short.is_none() && !table.has(&LISTENER.tls) {
        return Some(None);
    }
    if short.is_some() != tls.certificates.is_empty() {
        let words = Words::new("has certificates in two places, or in none");
        table.error(&LISTENER.tls, words.expected("either `certificate` and `key`, or `tls.certificates`"));
        return None;
    }
    tls.certificates.extend(short);
    Some(Some(tls))
}

section! {
    /// Redirect of a plain listener.
    REDIRECT: RedirectKeys {
        /// Port in the redirect; 443 is left out of the URL.
        port: Whole<u16> = whole(1, 65_535), Or("443");
        /// Path prefixes that are answered here all the same.
        except: List<Parsed<String>> = list(parsed("path prefix", prefix)), Or("['/health']");
    }
}

fn redirect(table: &Table<'_>) -> Option<RedirectToHttps> {
    let (port, except) = (table.get(&REDIRECT.port), table.get(&REDIRECT.except));
    Some(RedirectToHttps { port: port?, except: values(except?) })
}

section! {
    /// `Strict-Transport-Security` (RFC 6797).
    HSTS: HstsKeys {
        /// How long browsers remember it.
        max_age: Lasting = lasting(0, 3_650 * DAY), Or("'365d'");
        /// Whether it covers subdomains too.
        include_subdomains: Flag = Flag, Or("false");
    }
}

fn hsts(table: &Table<'_>) -> Option<Hsts> {
    let (max_age, include_subdomains) = (table.get(&HSTS.max_age), table.get(&HSTS.include_subdomains));
    Some(Hsts { max_age: max_age?, include_subdomains: include_subdomains? })
}

section! {
    /// Bounds on requests.
    LIMITS: LimitsKeys {
        /// Request head, all fields. Beyond it: 431 `head_too_large`. Superset's guest tokens are long.
        head_bytes: Bytes<usize> = bytes(4 * KIB, MIB), Or("'64KiB'");
        /// Request target. Beyond it: 414 `uri_too_long`.
        uri_bytes: Bytes<usize> = bytes(KIB, MIB), Or("'32KiB'");
        /// Header fields. Beyond it: 431 `head_too_large`. Gunicorn's own limit is 100.
        fields: Whole<usize> = whole(10, 256), Or("100");
        /// Trailer section of a request, all fields.
        trailer_bytes: Bytes<usize> = bytes(0, MIB), Or("'8KiB'");
        /// Least average rate of a request body per second, after a grace of `timeouts.body_idle`. Below it: 408.
        min_body_rate: Bytes<u64> = bytes(0, MIB), Or("'240'");
        /// Least that a client takes of a response per second of the time in which that waits for it, over each
        /// `timeouts.write_idle` of it. Below it: the stream is reset, the connection cut, the record says `slow_read`.
        /// Where the streams of a connection share a slow path, what counts is what all of them take. Tunnels may rest.
        min_response_rate: Bytes<u64> = bytes(0, MIB), Or("'240'");
    }
}

fn limits(table: &Table<'_>) -> Option<(RequestLimits, u64, u64)> {
    let head_bytes = table.get(&LIMITS.head_bytes);
    let uri_bytes = table.get(&LIMITS.uri_bytes);
    let fields = table.get(&LIMITS.fields);
    let trailer_bytes = table.get(&LIMITS.trailer_bytes);
    let (min_body_rate, min_response_rate) = (table.get(&LIMITS.min_body_rate), table.get(&LIMITS.min_response_rate));
    if head_bytes.zip(uri_bytes).is_some_and(|(head, uri)| uri > head) {
        let words = Words::new("can never be reached: the head holds the target").expected("at most `head_bytes`");
        table.error(&LIMITS.uri_bytes, words);
    }
    let (head_bytes, uri_bytes, fields, trailer_bytes) = (head_bytes?, uri_bytes?, fields?, trailer_bytes?);
    Some((RequestLimits { head_bytes, uri_bytes, fields, trailer_bytes }, min_body_rate?, min_response_rate?))
}

section! {
    /// Clocks on the client's side.
    TIMEOUTS: TimeoutsKeys {
        /// From the first byte of a request to the end of its head; also from accept to the first byte. 408.
        head: Lasting = lasting(100, 10 * MINUTE), Or("'10s'");
        /// Longest pause in a request body. 408.
        body_idle: Lasting = lasting(100, HOUR), Or("'30s'");
        /// Longest wait for the client to take more of the response. The connection is cut.
        write_idle: Lasting = lasting(100, HOUR), Or("'60s'");
        /// Longest pause between two requests. The connection is closed politely.
        keep_alive: Lasting = lasting(SECOND, HOUR), Or("'75s'");
    }
}

/// What `timeouts` means.
struct Timeouts {
    head: Duration,
    body_idle: Duration,
    write_idle: Duration,
    keep_alive: Duration,
}

fn timeouts(table: &Table<'_>) -> Option<Timeouts> {
    let (head, body_idle) = (table.get(&TIMEOUTS.head), table.get(&TIMEOUTS.body_idle));
    let (write_idle, keep_alive) = (table.get(&TIMEOUTS.write_idle), table.get(&TIMEOUTS.keep_alive));
    Some(Timeouts { head: head?, body_idle: body_idle?, write_idle: write_idle?, keep_alive: keep_alive? })
}

section! {
    /// HTTP/2 on a listener.
    HTTP2: Http2Keys {
        /// Whether `h2` is offered by ALPN.
        enabled: Flag = Flag, Or("true");
        /// Accept HTTP/2 by prior knowledge on a plain listener (h2c).
        cleartext: Flag = Flag, Or("false");
        /// Concurrent streams per connection.
        max_streams: Whole<u32> = whole(1, 10_000), Or("128");
        /// Receive window per stream.
        stream_window: Bytes<u32> = bytes(64 * KIB - 1, 16 * MIB), Or("'256KiB'");
        /// Receive window per connection.
        connection_window: Bytes<u32> = bytes(64 * KIB - 1, 64 * MIB), Or("'1MiB'");
        /// Response bytes per stream that may wait to be sent.
        send_buffer: Bytes<usize> = bytes(KIB, 16 * MIB), Or("'64KiB'");
        /// Streams reset by the client before they were accepted; beyond it: GOAWAY ENHANCE_YOUR_CALM.
        max_pending_resets: Whole<usize> = whole(1, 10_000), Or("20");
        /// Streams that the proxy resets for the client's errors; beyond it: GOAWAY.
        max_error_resets: Whole<usize> = whole(1, 100_000), Or("256");
        /// Largest frame accepted (RFC 9113 §6.5.2).
        max_frame: Bytes<u32> = bytes(16 * KIB, 16 * MIB - 1), Or("'16KiB'");
    }
}

fn http2(table: &Table<'_>) -> Option<Http2> {
    let enabled = table.get(&HTTP2.enabled);
    let cleartext = table.get(&HTTP2.cleartext);
    let max_streams = table.get(&HTTP2.max_streams);
    let stream_window = table.get(&HTTP2.stream_window);
    let connection_window = table.get(&HTTP2.connection_window);
    let send_buffer = table.get(&HTTP2.send_buffer);
    let max_pending_resets = table.get(&HTTP2.max_pending_resets);
    let max_error_resets = table.get(&HTTP2.max_error_resets);
    let max_frame = table.get(&HTTP2.max_frame);
    if stream_window.zip(connection_window).is_some_and(|(stream, connection)| stream > connection) {
        let words = Words::new("can never be used: the connection's window is smaller");
        table.warn(&HTTP2.stream_window, words.expected("at most `connection_window`"));
    }
    Some(Http2 {
        enabled: enabled?,
        cleartext: cleartext?,
        max_streams: max_streams?,
        stream_window: stream_window?,
        connection_window: connection_window?,
        send_buffer: send_buffer?,
        max_pending_resets: max_pending_resets?,
        max_error_resets: max_error_resets?,
        max_frame: max_frame?,
    })
}
