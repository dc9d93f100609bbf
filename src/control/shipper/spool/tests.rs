//! Spools on real disks.

use std::io::Write as _;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

const SIZE: u64 = 1 << 20;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &TempDir, size: u64) -> Spool {
    Spool::open(folder.path(), "test", size).unwrap().0
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<Entry> {
    numbers.map(|at| Entry { at, payload: Bytes::from(format!("{at:0100}")) }).collect()
}

/// Reads and commits everything.
fn drained(spool: &mut Spool) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let (read, cursor) = spool.read(7, 10_000).unwrap();
        if read.is_empty() {
            return all;
        }
        all.extend(read.iter().map(|entry| entry.at));
        spool.commit(cursor).unwrap();
    }
}

fn segments(folder: &TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ending| ending == "seg")).collect();
    files.sort();
    files
}

#[test]
fn entries_come_back_in_order_and_the_files_go() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);

    for start in (0..5_000).step_by(100) {
        assert_eq!(spool.append(&entries(start..start + 100)).unwrap(), 0);
    }
    assert_eq!((spool.held().entries, spool.held().oldest), (5_000, Some(0)));
    assert!(segments(&folder).len() > 3);

    assert_eq!(drained(&mut spool), (0..5_000).collect::<Vec<_>>());
    assert_eq!((spool.held(), segments(&folder).len()), (Held::default(), 0));
    spool.append(&entries(7..9)).unwrap();
    assert_eq!(drained(&mut spool), [7, 8]);
}

#[test]
fn what_was_read_and_not_committed_is_read_again() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    spool.append(&entries(0..10)).unwrap();

    let (_, cursor) = spool.read(3, 10_000).unwrap();
    spool.commit(cursor).unwrap();
    spool.read(3, 10_000).unwrap();
    assert_eq!(spool.held().entries, 7);
    spool.rewind();

    assert_eq!(drained(&mut spool), (3..10).collect::<Vec<_>>());
}

#[test]
fn what_an_earlier_process_left_is_there_from_where_it_was() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    spool.append(&entries(0..2_000)).unwrap();
    let (read, cursor) = spool.read(1_000, 1 << 20).unwrap();
    assert_eq!(read.len(), 1_000);
    spool.commit(cursor).unwrap();
    // Like a kill: nothing is closed in an orderly way.
    drop(spool);

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE).unwrap();

    assert_eq!((found, spool.held().entries), (Found::default(), 1_000));
    assert_eq!(drained(&mut spool), (1_000..2_000).collect::<Vec<_>>());
}

#[test]
fn a_tail_that_was_cut_costs_its_own_entry_only() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    spool.append(&entries(0..10)).unwrap();
    drop(spool);
    let file = segments(&folder).pop().unwrap();
    let length = fs::metadata(&file).unwrap().len();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 5).unwrap();

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE).unwrap();
    spool.append(&entries(20..22)).unwrap();

    assert!(found.torn > 0);
    assert_eq!(drained(&mut spool), (0..9).chain(20..22).collect::<Vec<_>>());
}

#[test]
fn a_flipped_bit_is_noticed_and_what_is_before_it_counts() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    spool.append(&entries(0..10)).unwrap();
    drop(spool);
    let file = segments(&folder).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    File::create(&file).unwrap().write_all(&bytes).unwrap();

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE).unwrap();

    assert!(found.torn > 0);
    let left = drained(&mut spool);
    assert!(!left.is_empty() && left.len() < 10);
    assert_eq!(left, (0..left.len() as u64).collect::<Vec<_>>());
}

#[test]
fn the_oldest_go_when_it_is_full_and_are_counted() {
    let folder = folder();
    let size = 64 * 1024;
    let mut spool = open(&folder, size);

    let mut lost = 0;
    for start in (0..10_000).step_by(50) {
        lost += spool.append(&entries(start..start + 50)).unwrap();
        assert!(spool.held().bytes <= size);
    }

    assert!(lost > 0);
    assert_eq!(drained(&mut spool), (lost..10_000).collect::<Vec<_>>());
}

#[test]
fn what_is_under_way_is_not_dropped_for_newer_ones() {
    let folder = folder();
    let mut spool = open(&folder, 64 * 1024);
    spool.append(&entries(0..20)).unwrap();
    let (under_way, cursor) = spool.read(10, 10_000).unwrap();

    let lost = spool.append(&entries(20..10_000)).unwrap();
    assert!(lost > 0);
    spool.rewind();
    let (again, same) = spool.read(10, 10_000).unwrap();
    assert_eq!((&again, same), (&under_way, cursor));
    spool.commit(same).unwrap();

    let rest = drained(&mut spool);
    assert_eq!(10 + rest.len() as u64 + lost, 10_000);
    assert!(rest.is_sorted() && rest.last() == Some(&9_999));
}

#[test]
fn two_processes_do_not_share_one() {
    let folder = folder();
    let spool = open(&folder, SIZE);

    let second = Spool::open(folder.path(), "test", SIZE);

    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(spool);
    open(&folder, SIZE);
}

#[test]
fn entries_for_another_kind_of_sink_are_removed_and_counted() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    spool.append(&entries(0..10)).unwrap();
    drop(spool);

    let (spool, found) = Spool::open(folder.path(), "other", SIZE).unwrap();

    assert_eq!((found.foreign, spool.held().entries, segments(&folder).len()), (10, 0, 0));
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = folder();
    let place = folder.path().join("spool").join("sink");
    let (mut spool, _) = Spool::open(&place, "test", SIZE).unwrap();
    spool.append(&entries(0..1)).unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&spool.path(0))), (0o700, 0o600));
}
