//! Headers of both versions, whole, in pieces, broken and random.

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::*;

const REST: &[u8] = b"GET / HTTP/1.1\r\n";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A header of version 2 with `extensions` behind its addresses.
fn version_2(source: SocketAddr, destination: SocketAddr, extensions: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            content.extend([from.octets(), to.octets()].concat());
            0x11
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            content.extend([from.octets(), to.octets()].concat());
            0x21
        }
        _ => panic!("two families"),
    };
    content.extend([source.port().to_be_bytes(), destination.port().to_be_bytes()].concat());
    content.extend(extensions);
    raw(0x21, family, &content)
}

fn raw(version: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[version, family], &length, content].concat()
}

#[test]
fn text_names_the_client() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET";

    let source = at("192.0.2.7:56324");
    let destination = at("198.51.100.1:443");
    assert_eq!(parse(line), Ok(Some((Header::Proxied { source, destination }, line.len() - 3))));
}

#[test]
fn unknown_client_is_the_proxy_itself() {
    let line = b"PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n";

    assert_eq!(parse(line), Ok(Some((Header::Own, line.len()))));
    assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Ok(Some((Header::Own, 15))));
}

#[test]
fn odd_text_is_refused() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\rX",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.007 198.51.100.1 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 2001:db8::2 1 2\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY \r\n",
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
}

#[test]
fn text_without_end_is_refused_at_its_bound() {
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();

    assert_eq!(parse(&endless[..V1_MAX - 1]), Ok(None));
    assert!(parse(&endless[..V1_MAX]).is_err());
}

#[test]
fn command_local_is_the_proxy_itself_whatever_it_carries() {
    let header = raw(0x20, 0x31, &[0xff; 7]);

    assert_eq!(parse(&header), Ok(Some((Header::Own, header.len()))));
}

#[test]
fn odd_binary_is_refused() {
    let whole = version_2(at("192.0.2.7:1"), at("192.0.2.8:2"), &[]);
    let content = &whole[16..];
    for (header, why) in [
        (raw(0x11, 0x11, content), "version 1"),
        (raw(0x22, 0x11, content), "unknown command"),
        (raw(0x21, 0x12, content), "datagrams"),
        (raw(0x21, 0x31, &[0; 216]), "unix socket"),
        (raw(0x21, 0x41, content), "unknown family"),
        (raw(0x21, 0x21, content), "too short for IPv6"),
        (raw(0x21, 0x11, &content[..11]), "too short for IPv4"),
        (raw(0x21, 0x11, &[content, &[4, 0]].concat()), "half an extension"),
        (raw(0x21, 0x11, &[content, &[4, 0, 9, 1]].concat()), "extension beyond the end"),
        (raw(0x21, 0x11, &[0; MAX]), "beyond the bound"),
    ] {
        assert!(parse(&header).is_err(), "{why}");
    }
}

#[test]
fn oversized_header_is_refused_before_it_is_read() {
    assert!(parse(&raw(0x21, 0x11, &[0; MAX])[..16]).is_err());
}

#[test]
fn checksum_is_checked() {
    let (source, destination) = (at("192.0.2.7:1"), at("192.0.2.8:2"));
    let unsummed = version_2(source, destination, &[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0]);
    let sum = crc32c(unsummed.iter().copied());
    let extensions = [&[4, 0, 1, 9, 3, 0, 4], sum.to_be_bytes().as_slice()].concat();
    let mut header = version_2(source, destination, &extensions);
    assert!(parse(&header).is_ok());

    header[17] ^= 1;

    assert_eq!(parse(&header), Err(Malformed("checksum")));
}

#[test]
fn checksum_is_the_one_of_the_standard() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

#[test]
fn mapped_address_is_the_ipv4_client() {
    let header = version_2(at("[::ffff:192.0.2.7]:1"), at("[::ffff:192.0.2.8]:2"), &[]);

    let (source, destination) = (at("192.0.2.7:1"), at("192.0.2.8:2"));
    assert_eq!(parse(&header), Ok(Some((Header::Proxied { source, destination }, header.len()))));
}

#[tokio::test]
async fn what_follows_the_header_is_read_as_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut socket = Socket::new(listener.accept().await.unwrap().0);
    far.write_all(&[b"PROXY TCP6 2001:db8::7 2001:db8::1 9 443\r\n".as_slice(), REST].concat()).await.unwrap();

    let named = read(&mut socket).await.unwrap();

    assert_eq!(named, Some(at("[2001:db8::7]:9")));
    let mut rest = [0; REST.len()];
    socket.read_exact(&mut rest).await.unwrap();
    assert_eq!(rest, REST);
}

#[tokio::test]
async fn connection_that_ends_within_the_header_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let mut socket = Socket::new(listener.accept().await.unwrap().0);
    far.write_all(b"PROXY TCP4 ").await.unwrap();
    drop(far);

    assert_eq!(read(&mut socket).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>()
        .prop_map(|(from, one, to, two)| (SocketAddr::from((from, one)), SocketAddr::from((to, two))));
    // The first byte keeps mapped addresses out, which come back as IPv4.
    let v6 = any::<([u8; 15], u16, [u8; 15], u16)>().prop_map(|(from, one, to, two)| {
        let address = |tail: [u8; 15]| -> [u8; 16] { [[0x20].as_slice(), &tail].concat().try_into().unwrap() };
        (SocketAddr::from((address(from), one)), SocketAddr::from((address(to), two)))
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn no_bytes_panic_or_take_more_than_there_are(
        start in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 "[..]), Just(V2_SIGNATURE)],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, &rest].concat();
        if let Ok(Some((_, length))) = parse(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }

    #[test]
    fn header_is_found_whatever_follows_and_waited_for_in_pieces(
        (source, destination) in pair(),
        extension in prop::collection::vec(any::<u8>(), 0..200),
        rest in prop::collection::vec(any::<u8>(), 0..50),
        text in any::<bool>(),
    ) {
        let header = if text {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let ports = format!("{} {}", source.port(), destination.port());
            format!("PROXY {family} {} {} {ports}\r\n", source.ip(), destination.ip()).into_bytes()
        } else {
            let length = u16::try_from(extension.len()).unwrap().to_be_bytes();
            version_2(source, destination, &[&[0xe0], length.as_slice(), &extension].concat())
        };
        for end in 0..header.len() {
            prop_assert_eq!(parse(&header[..end]), Ok(None));
        }
        let all = [header.as_slice(), &rest].concat();
        prop_assert_eq!(parse(&all), Ok(Some((Header::Proxied { source, destination }, header.len()))));
    }
}
