//! Field sections are read and written (RFC 9204), whole, cut and hostile.

use proptest::prelude::*;

use super::*;

fn read(section: &[u8], most: usize) -> Result<Vec<(String, String)>, Unreadable> {
    let mut lines = Lines::of(Bytes::copy_from_slice(section), most)?;
    let mut read = Vec::new();
    while let Some((name, value)) = lines.line()? {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        read.push((text(&name), text(&value)));
    }
    Ok(read)
}

fn lines(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn section_of_the_specification_is_read() {
    // RFC 9204 appendix B.1.
    let section = [&[0x00, 0x00, 0x51, 0x0b][..], b"/index.html"].concat();

    assert_eq!(read(&section, 1000), Ok(lines(&[(":path", "/index.html")])));
}

#[test]
fn whatever_names_a_dynamic_table_is_broken() {
    let sections: [&[u8]; 7] = [
        // Required Insert Count 1; Base below zero; indexed; literal with name; post-base ones.
        &[0x02, 0x00],
        &[0x00, 0x80],
        &[0x00, 0x00, 0x80],
        &[0x00, 0x00, 0x40, 0x00],
        &[0x00, 0x00, 0x10],
        &[0x00, 0x00, 0x00, 0x00],
        // An index beyond the static table.
        &[0x00, 0x00, 0xff, 0x24],
    ];

    for section in sections {
        assert!(matches!(read(section, 1000), Err(Unreadable::Broken(_))), "{section:x?}");
    }
}

#[test]
fn section_cut_anywhere_within_a_line_is_broken() {
    let mut section = BytesMut::new();
    begin(&mut section);
    put_line(&mut section, "x-some-name", b"some value\x00", false);

    for end in 3..section.len() {
        assert!(matches!(read(&section[..end], 1000), Err(Unreadable::Broken(_))), "{end}");
    }
    assert_eq!(read(&section[..1], 1000), Err(CUT));
}

#[test]
fn small_section_that_unfolds_to_much_stops_at_the_bound() {
    // A static entry of 84 bytes in two bytes each.
    let section = [&[0, 0][..], &[0xff, 0x16].repeat(10_000)].concat();

    assert_eq!(read(&section, 64 << 10), Err(Unreadable::TooLarge));
}

proptest! {
    #[test]
    fn lines_read_back(list in prop::collection::vec(("[a-z-]{1,20}", prop::collection::vec(any::<u8>(), 0..60)), 0..20)) {
        let mut section = BytesMut::new();
        begin(&mut section);
        for (name, value) in &list {
            put_line(&mut section, name, value, value.len() % 2 == 0);
        }

        let mut lines = Lines::of(section.freeze(), usize::MAX).unwrap();
        for (name, value) in list {
            let (read_name, read_value) = lines.line().unwrap().unwrap();
            prop_assert_eq!(read_name, name.as_bytes());
            prop_assert_eq!(read_value, value);
        }
        prop_assert_eq!(lines.line(), Ok(None));
    }

    #[test]
    fn no_section_holds_more_than_its_bound(bytes in prop::collection::vec(any::<u8>(), 0..300), most in 0..2000_usize) {
        let section = [&[0, 0][..], &bytes].concat();

        if let Ok(read) = read(&section, most) {
            prop_assert!(read.len() * OVERHEAD <= most);
        }
    }
}

#[test]
fn every_static_entry_reads_back() {
    for (name, value) in STATIC {
        let mut section = BytesMut::new();
        begin(&mut section);
        put_line(&mut section, name, value.as_bytes(), false);

        assert!(section.len() <= 4, "{name}");
        assert_eq!(read(&section, 1000), Ok(lines(&[(name, value)])));
    }
}
