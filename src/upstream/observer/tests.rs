//! Frames of WebSockets are seen as they pass, however they are cut.

use proptest::prelude::*;

use super::*;

/// A frame of a client, unmasked in fact as the mask is zero.
fn frame(sender: Side, first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = if sender == Side::Client { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(u8::try_from(length).unwrap() | mask),
        length @ 126..=65_535 => {
            out.push(126 | mask);
            out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            out.push(127 | mask);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if sender == Side::Client {
        out.extend_from_slice(&[0; 4]);
    }
    out.extend_from_slice(payload);
    out
}

fn look(bytes: &[u8]) -> Seen {
    Observer::new(Side::Client, 1000).look(bytes, Until::End)
}

#[test]
fn frames_and_messages_are_counted() {
    let bytes = [
        frame(Side::Client, 0x81, b"one"),
        frame(Side::Client, 0x01, b"tw"),
        frame(Side::Client, 0x89, b"ping"),
        frame(Side::Client, 0x80, b"o"),
        frame(Side::Client, 0xC2, b"deflated"),
        frame(Side::Client, 0x82, b""),
    ]
    .concat();

    let seen = look(&bytes);

    assert_eq!(seen, Seen { passed: bytes.len(), frames: 6, messages: 4, offence: None });
}

#[test]
fn payload_beyond_the_bound_stops_before_its_header() {
    let good = frame(Side::Client, 0x82, &[0; 1000]);
    let seen = look(&[good.clone(), frame(Side::Client, 0x82, &[0; 1001])].concat());

    assert_eq!(seen, Seen { passed: good.len(), frames: 1, messages: 1, offence: Some(Offence::TooLarge) });
}

#[test]
fn broken_framing_is_an_offence() {
    let mut long = vec![0x82, 0xFE, 0, 1];
    long.extend_from_slice(&[0; 5]);
    let cases: [(&str, Vec<u8>); 8] = [
        ("unmasked", frame(Side::Upstream, 0x81, b"x")),
        ("reserved opcode", frame(Side::Client, 0x83, b"x")),
        ("fragmented ping", frame(Side::Client, 0x09, b"x")),
        ("long ping", frame(Side::Client, 0x89, &[0; 126])),
        ("continuation of nothing", frame(Side::Client, 0x80, b"x")),
        ("message in message", [frame(Side::Client, 0x01, b"x"), frame(Side::Client, 0x81, b"x")].concat()),
        ("length not minimal", long),
        ("64-bit length", [&[0x82, 0xFF][..], &[0xFF; 8], &[0; 4]].concat()),
    ];
    for (name, bytes) in cases {
        assert!(matches!(look(&bytes).offence, Some(Offence::Malformed(_))), "{name}");
    }
}

#[test]
fn endpoint_must_not_mask() {
    let mut observer = Observer::new(Side::Upstream, 1000);

    assert!(observer.look(&frame(Side::Client, 0x81, b"x"), Until::End).offence.is_some());
}

#[test]
fn looking_stops_at_the_next_boundary() {
    let mut observer = Observer::new(Side::Client, 1000);
    let first = frame(Side::Client, 0x81, b"0123456789");
    let all = [first.clone(), frame(Side::Client, 0x81, b"next")].concat();

    let passed = observer.look(&all[..10], Until::End).passed;
    let seen = observer.look(&all[passed..], Until::Boundary);

    assert_eq!(passed + seen.passed, first.len());
    assert!(observer.is_between_frames());
    assert_eq!(observer.look(&all[first.len()..], Until::Boundary).passed, 0);
}

#[test]
fn our_own_close_is_well_formed_from_either_side() {
    for sender in [Side::Client, Side::Upstream] {
        let bytes = close(sender, 1012);
        let mut observer = Observer::new(sender, 0);

        let seen = observer.look(&bytes, Until::End);

        assert_eq!((seen.passed, seen.offence), (bytes.len(), None));
        assert!(observer.is_closed());
    }
}

/// Shows `bytes` in pieces as a tunnel does, held-back bytes first.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Seen {
    let mut observer = Observer::new(Side::Client, 300);
    let mut sum = Seen::default();
    let mut held = Vec::new();
    let mut at = 0;
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    for cut in cuts {
        held.extend_from_slice(&bytes[at..cut]);
        at = cut;
        let seen = observer.look(&held, Until::End);
        held.drain(..seen.passed);
        sum.passed += seen.passed;
        sum.frames += seen.frames;
        sum.messages += seen.messages;
        if seen.offence.is_some() {
            sum.offence = seen.offence;
            break;
        }
        assert!(held.len() < MAX_HEADER);
    }
    sum
}

proptest! {
    #[test]
    fn counts_do_not_depend_on_how_bytes_are_cut(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..400)), 0..12),
        kinds in prop::collection::vec(prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x80, 0x00, 0x89, 0xC1, 0x88]), 12),
        wild in any::<bool>(),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let bytes: Vec<u8> = frames
            .iter()
            .zip(kinds)
            .flat_map(|((any, payload), kind)| frame(Side::Client, if wild { *any } else { kind }, payload))
            .collect();

        prop_assert_eq!(in_pieces(&bytes, &cuts), in_pieces(&bytes, &[]));
    }

    #[test]
    fn no_bytes_panic_and_none_pass_twice(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(look(&bytes).passed <= bytes.len());
    }
}
