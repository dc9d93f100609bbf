//! Readers of hostile bytes on stable Rust: what `tests/fuzz` hunts with libFuzzer, fed with the kept seeds, with pieces
//! of them, and with random bytes.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own to the fuzz targets")]
mod readers;

use readers::READERS;

/// The seeds of one reader.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

fn reader(name: &str) -> fn(&[u8]) {
    READERS.iter().find(|(known, _)| *known == name).unwrap().1
}

#[test]
fn every_reader_has_seeds_and_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (name, _) in READERS {
        assert!(seeds(name).len() >= 3, "{name}");
        assert!(root.join("targets").join(format!("{name}.rs")).exists(), "{name}");
    }
    assert_eq!(fs::read_dir(root.join("targets")).unwrap().count(), READERS.len());
}

#[test]
fn seeds_hold() {
    for (name, read) in READERS {
        for seed in seeds(name) {
            read(&seed);
            for cut in 0..seed.len() {
                read(&seed[..cut]);
                // One bit of each byte turned.
                let mut odd = seed.clone();
                odd[cut] ^= 1 << (cut % 8);
                read(&odd);
            }
        }
    }
}

/// Bytes that are near to something that means something: pieces of two seeds with noise between them.
fn near(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = (prop::sample::select(seeds(name)), any::<prop::sample::Index>())
        .prop_map(|(seed, index)| seed[..index.index(seed.len() + 1)].to_vec());
    let noise = prop::collection::vec(any::<u8>(), 0..8);
    (piece.clone(), noise, piece).prop_map(|(one, noise, other)| [one, noise, other].concat())
}

macro_rules! random {
    ($($name:ident)*) => {
        proptest! {
            $(
                #[test]
                fn $name(near in near(stringify!($name)), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
                    let read = reader(stringify!($name));
                    read(&near);
                    read(&bytes);
                }
            )*
        }
    };
}

/// Random bytes, a test for each reader.
mod random {
    use super::*;

    random! {
        client_hello config forwarded frame_observer h1_chunked h1_head h3_control h3_head h3_message host kafka_answer
        login_body proxy_protocol route_canonical shield trace
    }
}
