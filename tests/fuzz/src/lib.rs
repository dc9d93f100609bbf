//! What must hold of every reader of hostile bytes, whatever the bytes.
//!
//! One function for each reader. The fuzz targets call them, and so does `tests/it/seeds.rs`, which feeds them the kept
//! seeds and random bytes on stable Rust. Each panics when its property is broken.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method};
use sluicegate::config::Config;
use sluicegate::forwarded;
use sluicegate::h1::encode::{self, Delimiting, Persistence};
use sluicegate::h1::{Decoded, Decoder, Framing, HeadLimits, HeadScan, head};
use sluicegate::h3;
use sluicegate::head::{Fields, HeaderValue};
use sluicegate::headers::{Authority, Trace, is_request_id};
use sluicegate::kafka::answer;
use sluicegate::kafka::scram::{Hash, Scram};
use sluicegate::limit::login::Way;
use sluicegate::net::proxy_protocol::{self, Header};
use sluicegate::route::canonical;
use sluicegate::upstream::observer::{Observer, Offence, Side, Until};
use sluicegate::waf::hello::{self, Carrier, Look};
use sluicegate::waf::{Glob, agents, attack, spelling};

/// Feeds bytes to one reader and asserts what must hold.
pub type Reader = fn(&[u8]);

/// The readers by name, as the folders of seeds and the fuzz targets have them.
pub const READERS: [(&str, Reader); 16] = [
    ("client_hello", client_hello),
    ("config", config),
    ("forwarded", forwarded),
    ("frame_observer", frame_observer),
    ("h1_chunked", h1_chunked),
    ("h1_head", h1_head),
    ("h3_control", h3_control),
    ("h3_head", h3_head),
    ("h3_message", h3_message),
    ("host", host),
    ("kafka_answer", kafka_answer),
    ("login_body", login_body),
    ("proxy_protocol", proxy_protocol),
    ("route_canonical", route_canonical),
    ("shield", shield),
    ("trace", trace),
];

/// What a client's stream of one way means does not depend on how it came, and nothing of it is kept beyond bounds.
pub fn h3_control(bytes: &[u8]) {
    let read = |pieces: &[&[u8]]| {
        let mut stream = h3::unidirectional::Stream::default();
        let mut purpose = None;
        for piece in pieces {
            match stream.feed(Bytes::copy_from_slice(piece), 100) {
                Ok(found) => purpose = purpose.or(found),
                Err(offence) => return Err(offence.code),
            }
        }
        Ok((purpose, stream.finish().is_ok(), stream.take_skipped()))
    };
    let whole = read(&[bytes]);
    let by_byte: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&by_byte), whole, "one by one");
    let (one, other) = bytes.split_at(bytes.len() / 2);
    assert_eq!(read(&[one, other]), whole, "in two");
}

/// A head is read or refused; what is read has no byte that HTTP/1.1 could misread, and what we write of it reads back.
pub fn h3_head(bytes: &[u8]) {
    const MOST: usize = 4096;
    let Ok(head) = h3::head::request(Bytes::copy_from_slice(bytes), MOST) else { return };
    let fields = &head.parts.headers;
    let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size <= MOST, "{size}");
    for (name, value) in fields {
        assert!(
            !name.as_str().is_empty() && !name.as_str().bytes().any(|byte| byte.is_ascii_uppercase() || byte == b':')
        );
        assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    assert!(!fields.contains_key("connection") && !fields.contains_key("transfer-encoding"));
    assert!(head.parts.method == Method::CONNECT || !head.parts.uri.path().is_empty());

    let mut written = h3::head::response(http::StatusCode::OK, fields);
    let mut cutter = h3::frame::Cutter::new();
    assert!(matches!(cutter.next(&mut written), Some(h3::frame::Part::Head { kind: h3::frame::HEADERS, .. })));
    let Some(h3::frame::Part::Payload(section)) = cutter.next(&mut written) else { panic!("no section") };
    let mut lines = h3::qpack::Lines::of(section, usize::MAX).expect("ours");
    let mut again = Fields::new();
    while let Some((name, value)) = lines.line().expect("ours") {
        if let Ok(name) = HeaderName::from_bytes(&name) {
            again.append(name, HeaderValue::from_bytes(&value).expect("a value"));
        }
    }
    assert_eq!(&again, fields);
}

/// A request's stream means the same however it came; nothing is kept of what exceeds its bound.
pub fn h3_message(bytes: &[u8]) {
    use h3::message::{Bounds, Event, Message};
    let bounds = Bounds { head: 200, trailers: 50, unknown: 100 };
    let read = |pieces: &[&[u8]]| {
        let mut message = Message::new(bounds);
        let mut events = Vec::new();
        for piece in pieces {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                match message.next(&mut piece) {
                    Ok(None) => break,
                    Ok(Some(Event::Content(more))) => match events.last_mut() {
                        Some(Event::Content(before)) => *before = [before.as_ref(), &more].concat().into(),
                        _ => events.push(Event::Content(more)),
                    },
                    Ok(Some(event)) => {
                        if let Event::Head(section) = &event {
                            assert!(section.len() <= bounds.head);
                        }
                        events.push(event);
                    }
                    Err(offence) => return (events, Err(offence.code)),
                }
            }
            assert!(piece.is_empty(), "left behind");
        }
        (events, message.finish().map_err(|offence| offence.code))
    };
    let whole = read(&[bytes]);
    let by_byte: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&by_byte), whole, "one by one");
    assert!(whole.0.iter().skip(1).all(|event| !matches!(event, Event::Head(_))), "two heads");
}

/// An answer is read or refused as each of those that are read; what is read is no more than the bytes could say.
pub fn kafka_answer(bytes: &[u8]) {
    let Some((correlation, _)) = bytes.split_first_chunk() else { return };
    let correlation = i32::from_be_bytes(*correlation);
    assert!(answer::api_versions(bytes, correlation.wrapping_add(1)).is_err(), "an answer to another question");
    let _versions = answer::api_versions(bytes, correlation);
    if let Ok(cluster) = answer::metadata(bytes, correlation, "logs") {
        assert!(cluster.brokers.len() * 12 + cluster.leaders.len() * 18 <= bytes.len());
        assert!(cluster.leaders.iter().all(|(_, leader)| cluster.brokers.contains_key(leader)));
        assert!(cluster.brokers.values().all(|(host, port)| !host.is_empty() && *port > 0));
    }
    for version in 3..=8 {
        if let Ok(produced) = answer::produce(bytes, version, correlation, 0) {
            assert!(produced.words.is_none_or(|words| words.len() < bytes.len()));
        }
    }
    if let Ok((_, offered)) = answer::sasl_handshake(bytes, correlation) {
        assert!(offered.iter().map(|offered| offered.len() + 2).sum::<usize>() <= bytes.len());
    }
    for version in 0..=1 {
        if let Ok(heard) = answer::sasl_authenticate(bytes, version, correlation) {
            assert!(heard.challenge.len() < bytes.len());
        }
    }
    // The rounds are slow by design: only what comes before them.
    let scram = Scram::new(Hash::Sha256, "user", b"pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
    if !bytes.windows(2).any(|pair| pair == b"i=") {
        assert!(scram.last(bytes).is_err());
    }
}

/// A PROXY header is understood at its last byte: not before, and whatever follows.
pub fn proxy_protocol(bytes: &[u8]) {
    let whole = proxy_protocol::parse(bytes);
    let mut prefixes = (0..bytes.len().min(proxy_protocol::MAX)).map(|end| (end, proxy_protocol::parse(&bytes[..end])));
    match whole {
        Ok(Some((header, length))) => {
            assert!(length <= bytes.len() && length <= proxy_protocol::MAX, "length {length}");
            for (end, found) in prefixes {
                let expected = (end >= length).then_some((header, length));
                assert_eq!(found, Ok(expected), "cut at {end}");
            }
            if let Header::Proxied { source, destination } = header {
                assert_eq!(source.ip(), source.ip().to_canonical());
                assert_eq!(destination.ip(), destination.ip().to_canonical());
            }
        }
        Ok(None) => {
            assert!(bytes.len() < proxy_protocol::MAX, "asks for more than it may");
            assert!(prefixes.all(|(_, found)| found == Ok(None)), "a prefix was judged before the whole");
        }
        Err(_) => assert!(prefixes.all(|(_, found)| !matches!(found, Ok(Some(_)))), "more bytes undo a header"),
    }
}

/// A text is a configuration, or is refused with reasons that can be shown.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Config::parse(text, Path::new("fuzz.toml")) {
        Ok(loaded) => {
            assert!(!loaded.warnings.has_errors());
            assert!(!loaded.config.listeners.is_empty() && !loaded.config.pools.is_empty());
            drop(loaded.warnings.render(false));
        }
        Err(findings) => {
            assert!(findings.has_errors(), "refused without a reason");
            assert!(!findings.render(false).is_empty());
        }
    }
}

/// Fields of a chain, one a line; the first byte says whether the peer is trusted.
pub fn forwarded(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let trusted = ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
    let name = |name| HeaderName::from_static(name);
    let fields: Fields = rest
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .flat_map(|line| [(name("x-forwarded-for"), line.clone()), (name("x-forwarded-proto"), line)])
        .collect();
    let (near, far): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [203, 0, 113, 9].into());
    let peer = if first & 1 == 0 { near } else { far };

    let client = forwarded::client(peer, &fields, &trusted);

    assert_eq!(client, client.to_canonical());
    if peer == far {
        assert_eq!(client, far, "an untrusted peer is believed");
        assert_eq!(forwarded::scheme(peer, &fields, &trusted), None);
    } else if client != near {
        let text = String::from_utf8_lossy(rest).to_lowercase();
        assert!(!text.trim().is_empty(), "an address out of nothing");
    }
    let mut extended = fields.clone();
    extended.append("x-forwarded-for", HeaderValue::from_static("198.51.100.4, 10.0.0.2"));
    assert_eq!(forwarded::client(near, &extended, &trusted).to_string(), "198.51.100.4", "a client forges its address");
    let host = std::str::from_utf8(rest).ok();
    if let Some(value) = forwarded::forwarded_value(client, host, "https") {
        let pairs = value.to_str().expect("visible characters only").split(';').count();
        let semicolons = host.map_or(0, |host| host.matches(';').count());
        assert_eq!(pairs, 2 + usize::from(host.is_some()) + semicolons);
    }
}

/// What a tunnel lets pass does not depend on how its bytes were cut, and an offence stops it at the same byte.
pub fn frame_observer(bytes: &[u8]) {
    let Some(([flags, step], rest)) = bytes.split_first_chunk::<2>() else { return };
    let sender = if flags & 1 == 0 { Side::Client } else { Side::Upstream };
    let most = if flags & 2 == 0 { 64 } else { u64::MAX >> 1 };
    let at_once = observe(Observer::new(sender, most), rest, rest.len().max(1), Until::End);
    let cut = observe(Observer::new(sender, most), rest, usize::from(*step).max(1), Until::End);
    assert_eq!(at_once, cut);
    let by_boundary = observe(Observer::new(sender, most), rest, rest.len().max(1), Until::Boundary);
    assert!(by_boundary.passed <= at_once.passed);
}

#[derive(Debug, Eq, PartialEq)]
struct Observed {
    passed: usize,
    frames: u64,
    messages: u64,
    offence: Option<Offence>,
    between: bool,
    closed: bool,
}

fn observe(mut observer: Observer, bytes: &[u8], step: usize, until: Until) -> Observed {
    let (mut passed, mut frames, mut messages, mut offence) = (0, 0, 0, None);
    let mut end = 0;
    while end < bytes.len() && offence.is_none() {
        end = bytes.len().min(end + step);
        let seen = observer.look(&bytes[passed..end], until);
        assert!(seen.passed <= end - passed && seen.messages <= seen.frames);
        passed += seen.passed;
        (frames, messages, offence) = (frames + seen.frames, messages + seen.messages, seen.offence);
    }
    Observed { passed, frames, messages, offence, between: observer.is_between_frames(), closed: observer.is_closed() }
}

/// A head is found and judged alike however it was cut, and what we write of it reads back as the same.
pub fn h1_head(bytes: &[u8]) {
    let Some((step, rest)) = bytes.split_first() else { return };
    let step = usize::from(*step).max(1);
    let end = HeadScan::default().find_end(rest);
    let mut scan = HeadScan::default();
    let mut trickled = Ok(None);
    for upto in (0..rest.len()).step_by(step).chain([rest.len()]) {
        trickled = scan.find_end(&rest[..upto]);
        if !matches!(trickled, Ok(None)) {
            break;
        }
    }
    assert_eq!(end.is_ok_and(|end| end.is_some()), trickled.is_ok_and(|end| end.is_some()));
    let Ok(Some(end)) = end else { return };
    assert_eq!(trickled, Ok(Some(end)));
    let head = Bytes::copy_from_slice(&rest[..end]);
    request(&head);
    for method in [Method::GET, Method::HEAD] {
        response(&head, &method);
    }
}

const LIMITS: HeadLimits = HeadLimits { bytes: 65_536, target: 8_192, fields: 100 };

fn request(head: &Bytes) {
    let Ok(parsed) = head::parse_request(head, &LIMITS) else { return };
    assert!(parsed.parts.uri.to_string().len() <= LIMITS.target + 1 && parsed.parts.headers.len() <= LIMITS.fields);
    assert!(!matches!(parsed.framing, Framing::UntilClose), "a request without an end");
    let delimiting = match parsed.framing {
        Framing::Length(length) => Delimiting::Length(length),
        Framing::Chunked => Delimiting::Chunks,
        Framing::None | Framing::UntilClose => Delimiting::of_request(&parsed.parts.method, Some(0)),
    };
    // What the pipeline sees to before an endpoint is asked.
    if parsed.parts.method == Method::CONNECT || !parsed.parts.headers.contains_key("host") {
        return;
    }
    let mut written = BytesMut::new();
    encode::request_head(&mut written, &parsed.parts, delimiting, Persistence::Default);
    assert_eq!(HeadScan::default().find_end(&written), Ok(Some(written.len())), "a head within the head");
    let again = head::parse_request(&written.freeze(), &LIMITS).expect("what we write can be read");
    assert_eq!(again.parts.method, parsed.parts.method);
    assert_eq!(again.parts.uri.path(), parsed.parts.uri.path());
    assert_eq!(again.parts.uri.query(), parsed.parts.uri.query());
    let length = |framing| match framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    assert_eq!(length(again.framing), length(parsed.framing), "the framing changed");
}

fn response(head: &Bytes, method: &Method) {
    let Ok(parsed) = head::parse_response(head, method) else { return };
    let status = parsed.parts.status;
    let none = *method == Method::HEAD || status.is_informational() || status == 204 || status == 304;
    assert!(!none || parsed.framing == Framing::None);
    let remaining = match parsed.framing {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let delimiting = Delimiting::of_response(method, status, remaining, true);
    let mut written = BytesMut::new();
    encode::response_head(&mut written, &parsed.parts, delimiting, Persistence::Default);
    assert_eq!(HeadScan::default().find_end(&written), Ok(Some(written.len())), "a head within the head");
    let again = head::parse_response(&written.freeze(), method).expect("what we write can be read");
    assert_eq!(again.parts.status, status);
    let expected = if parsed.framing == Framing::UntilClose { Framing::Chunked } else { parsed.framing };
    assert_eq!(again.framing, expected, "the framing changed");
}

/// Chunks are decoded alike however they were cut, never beyond their end, and read back when we write them.
pub fn h1_chunked(bytes: &[u8]) {
    let Some((step, rest)) = bytes.split_first() else { return };
    let at_once = dechunk(rest, rest.len().max(1));
    let cut = dechunk(rest, usize::from(*step).max(1));
    match (&at_once, &cut) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        // What is refused in the end may be refused at once when more of it is seen.
        (Err(_), Err(_)) => {}
        (one, other) => assert!(is_cut_off(one) || is_cut_off(other), "{one:?} {other:?}"),
    }
    if let Ok((content, _, left)) = &cut {
        assert!(content.len() + left < rest.len(), "content out of nothing");
        let mut written = BytesMut::new();
        for piece in content.chunks(usize::from(*step).max(1)) {
            encode::chunk_size(&mut written, piece.len());
            written.extend_from_slice(piece);
            written.extend_from_slice(b"\r\n");
        }
        encode::last_chunk(&mut written, &Fields::new());
        let (again, _, left) = dechunk(&written, 7).expect("what we write can be read");
        assert_eq!((&again, left), (content, 0));
    }
}

type Dechunked = (Vec<u8>, Option<Fields>, usize);

/// An error means the same however the bytes came, save that a line without an end is given up at a bound.
fn is_cut_off(got: &Result<Dechunked, &'static str>) -> bool {
    matches!(got, Err("incomplete" | "chunk extensions too long" | "trailers too long"))
}

fn dechunk(wire: &[u8], step: usize) -> Result<Dechunked, &'static str> {
    let mut decoder = Decoder::new(Framing::Chunked, 1024);
    let mut pieces = wire.chunks(step);
    let mut bytes = BytesMut::new();
    let mut content = Vec::new();
    loop {
        let trailers = match decoder.decode(&mut bytes)? {
            Decoded::Data(data) => {
                assert!(!data.is_empty(), "an empty piece of content");
                content.extend_from_slice(&data);
                continue;
            }
            Decoded::Trailers(trailers) => Some(trailers),
            Decoded::End => None,
            Decoded::NeedMore => {
                bytes.extend_from_slice(pieces.next().ok_or("incomplete")?);
                continue;
            }
        };
        assert!(decoder.is_done());
        return Ok((content, trailers, bytes.len() + pieces.map(<[u8]>::len).sum::<usize>()));
    }
}

/// One spelling for each path, and what a route would be dodged by is not in it.
pub fn route_canonical(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    let once = canonical(path);
    // Anything else (`*`) is no path and meets no route by one.
    if !path.starts_with('/') {
        return;
    }
    assert_eq!(canonical(&once), once, "not idempotent");
    assert!(once.len() <= 1 + 3 * path.len());
    if once.starts_with('/') {
        assert!(once == "/" || !once.ends_with('/'));
        assert!(!once.contains("//") && !once.contains('\\'), "{once}");
        assert!(once.split('/').all(|segment| segment != "." && segment != ".."), "{once}");
    }
    if let Cow::Borrowed(borrowed) = once {
        assert!(borrowed == "/" || path.starts_with(borrowed));
    }
    assert_eq!(canonical(&format!("{path}/")), canonical(path), "a final slash makes a difference");
}

/// A host reads back from its parts, and holds nothing that a field or a log could misread.
pub fn host(bytes: &[u8]) {
    let Ok(authority) = Authority::parse(bytes) else { return };
    assert!(bytes.len() <= Authority::MAX);
    assert!(authority.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~[]:".contains(&byte)));
    let printed = match authority.port {
        Some(port) => format!("{}:{port}", authority.name),
        None => authority.name.to_owned(),
    };
    let again = Authority::parse(printed.as_bytes()).expect("what we write can be read");
    assert_eq!(again, authority);
    assert!(authority.agrees_with(&again, "https") && HeaderValue::from_bytes(bytes).is_ok());
}

/// A login's name is what Superset would compare: trimmed, in lower case, and not longer than what came could say. The
/// first byte says which way and type it has.
pub fn login_body(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    let (way, media) = match kind % 4 {
        0 => (Way::Form, "application/x-www-form-urlencoded"),
        1 => (Way::Api, "application/json"),
        2 => (Way::Form, "multipart/form-data; boundary=x"),
        _ => (Way::Api, "text/plain"),
    };
    let name = way.user(Some(&HeaderValue::from_static(media)), body);
    assert!(kind % 4 < 2 || name.is_none(), "a type that Superset does not read");
    if let Some(name) = name {
        assert!(!name.is_empty() && name == name.trim());
        // A replaced byte takes three, and a letter at most thrice its bytes in lower case.
        assert!(name.len() <= 9 * body.len());
        assert_eq!(way.user(Some(&HeaderValue::from_static(media)), body), Some(name));
    }
}

/// A trace reads back, its child stays in it, and a request id is safe in a log.
pub fn trace(bytes: &[u8]) {
    if let Some(trace) = Trace::parse(bytes) {
        assert!(trace.trace_id() != 0 && trace.span_id() != 0);
        let again = Trace::parse(trace.to_value().as_bytes()).expect("what we write can be read");
        assert_eq!((again.trace_id(), again.span_id()), (trace.trace_id(), trace.span_id()));
        let child = Trace::parse(trace.child(1).to_value().as_bytes()).expect("a child");
        assert_eq!((child.trace_id(), child.span_id()), (trace.trace_id(), 1));
    }
    if is_request_id(bytes) {
        let unsafe_bytes = b"\"'<>&\\ ;";
        assert!(!bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() && !unsafe_bytes.contains(byte)));
    }
}

/// A ClientHello is understood at its last byte, whatever follows it; before it nothing is known but that it is none.
pub fn client_hello(bytes: &[u8]) {
    let whole = hello::look(bytes);
    if let Look::Found(fingerprint) = whole {
        assert_eq!(fingerprint.as_str().len(), 36);
        let more = [bytes, b"\x17\x03\x03"].concat();
        assert_eq!(hello::look(&more), whole);
    }
    if bytes.len() < 2_000 {
        let mut before = Look::More;
        for end in 0..=bytes.len() {
            let now = hello::look(&bytes[..end]);
            assert!(before == Look::More || now == before, "{before:?} became {now:?}");
            before = now;
        }
    }
    hello::of_message(bytes, Carrier::Quic);
}

/// The matchers of the shield, on a pattern and a text: none panics, and a pattern without stars is itself.
pub fn shield(bytes: &[u8]) {
    let middle = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (pattern, text) = bytes.split_at(middle);
    if let Ok(pattern) = std::str::from_utf8(pattern) {
        for glob in [Glob::path(pattern), Glob::text(pattern)] {
            let fits = glob.fits(text);
            assert!(!glob.is_literal() || fits == (pattern.as_bytes() == text));
            assert!(!glob.is_literal() || glob.fits(pattern.as_bytes()));
            assert!(!fits || text.starts_with(glob.literal()));
        }
    }
    spelling::is_deceptive(text);
    agents::classify(Some(text));
    if let Ok(text) = std::str::from_utf8(text) {
        attack::is_probe(text);
        attack::is_injected(text);
        attack::is_injected_query(text);
    }
    if let Ok(value) = HeaderValue::from_bytes(text) {
        attack::is_injected_field(&Fields::from_iter([(HeaderName::from_static("x"), value)]));
    }
}
