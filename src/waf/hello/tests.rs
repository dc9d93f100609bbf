//! ClientHellos and their JA4 fingerprints.

use proptest::prelude::*;

use super::*;

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn words(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A ClientHello, with its message header.
fn hello(ciphers: &[u16], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut content = vec![3, 3];
    content.extend([7; 32]);
    content.push(0);
    content.extend(vector(&words(ciphers)));
    content.extend([1, 0]);
    let block: Vec<u8> =
        extensions.iter().flat_map(|(kind, value)| [kind.to_be_bytes().to_vec(), vector(value)].concat()).collect();
    content.extend(vector(&block));
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[1][..], &length[1..], &content].concat()
}

fn record(part: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &vector(part)].concat()
}

/// Chrome's, as the definition of JA4 has it for its example, in another order and with GREASE.
fn chrome() -> Vec<u8> {
    let ciphers = [
        0x0a0a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
        0x002f, 0x0035,
    ];
    let signatures = words(&[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601]);
    let plain = |kind: u16| (kind, Vec::new());
    let extensions = [
        plain(0x1a1a),
        (0x0000, vector(b"\0\0\x01a")),
        plain(0x0017),
        plain(0xff01),
        plain(0x000a),
        plain(0x000b),
        plain(0x0023),
        (0x0010, vector(b"\x02h2\x08http/1.1")),
        plain(0x0005),
        (0x000d, vector(&signatures)),
        plain(0x0012),
        plain(0x0033),
        plain(0x002d),
        (0x002b, [&[6][..], &words(&[0x2a2a, 0x0304, 0x0303])].concat()),
        plain(0x001b),
        plain(0x4469),
        plain(0x0015),
    ];
    hello(&ciphers, &extensions)
}

#[test]
fn fingerprint_is_that_of_the_definition() {
    let Look::Found(found) = look(&record(&chrome())) else { panic!("no fingerprint") };

    assert_eq!(found.as_str(), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!(of_message(&chrome(), Carrier::Quic).unwrap().as_str(), "q13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn client_that_offers_next_to_nothing_has_one_too() {
    let Look::Found(found) = look(&record(&hello(&[], &[]))) else { panic!("no fingerprint") };
    assert_eq!(found.as_str(), "t12i000000_000000000000_000000000000");

    let odd = hello(&[0x1301], &[(16, vector(b"\x02\xab\xcd"))]);
    let Look::Found(found) = look(&record(&odd)) else { panic!("no fingerprint") };
    assert!(found.as_str().starts_with("t12i0101ad"));
}

#[test]
fn what_is_no_client_hello_is_nothing_at_once() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02", b"\x16\x03\x01\x00\x01\x02", b"\x15\x03\x01\x00\x02\x01\x00"]
    {
        let expected = if bytes.len() < 5 && bytes[0] == 22 { Look::More } else { Look::Nothing };
        assert_eq!(look(bytes), expected, "{bytes:?}");
    }
    assert_eq!(look(&[]), Look::More);
}

proptest! {
    #[test]
    fn client_hello_is_found_at_its_last_byte_however_it_is_cut(cuts in prop::collection::vec(1..200_usize, 0..6)) {
        let message = chrome();
        let mut bytes = Vec::new();
        let mut rest = &message[..];
        for cut in cuts {
            let (part, behind) = rest.split_at(cut.min(rest.len()));
            if !part.is_empty() {
                bytes.extend(record(part));
            }
            rest = behind;
        }
        if !rest.is_empty() {
            bytes.extend(record(rest));
        }

        for end in 0..bytes.len() {
            prop_assert_eq!(look(&bytes[..end]), Look::More, "{}", end);
        }
        prop_assert!(matches!(look(&bytes), Look::Found(_)));
        bytes.extend(b"\x14\x03\x03");
        prop_assert!(matches!(look(&bytes), Look::Found(_)));
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        look(&bytes);
        let mut message = vec![1, 0, 2, 0];
        message.extend(&bytes);
        of_message(&message, Carrier::Quic);
        look(&record(&message));
    }
}
