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
    Spool::open(folder.path(), "test", size, (size / 8).max(8 << 10)).unwrap().0
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<Entry> {
    numbers.map(|at| Entry { at, payload: Bytes::from(format!("{at:0100}")) }).collect()
}

/// Appends entries; gives how many older ones had to go.
fn append(spool: &mut Spool, numbers: std::ops::Range<u64>) -> u64 {
    let all = entries(numbers);
    let done = spool.append(&all);
    assert!(done.error.is_none() && done.stored == all.len(), "{done:?}");
    done.lost
}

/// Reads and commits everything.
fn drained(spool: &mut Spool) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let read = spool.read(7, 10_000).unwrap();
        spool.commit(read.upto).unwrap();
        if read.entries.is_empty() {
            return all;
        }
        all.extend(read.entries.iter().map(|entry| entry.at));
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
        assert_eq!(append(&mut spool, start..start + 100), 0);
    }
    assert_eq!((spool.held().entries, spool.held().oldest), (5_000, Some(0)));
    assert!(segments(&folder).len() > 3);

    assert_eq!(drained(&mut spool), (0..5_000).collect::<Vec<_>>());
    assert_eq!((spool.held(), segments(&folder).len()), (Held::default(), 0));
    append(&mut spool, 7..9);
    assert_eq!(drained(&mut spool), [7, 8]);
}

#[test]
fn what_was_read_and_not_committed_is_read_again() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..10);

    let read = spool.read(3, 10_000).unwrap();
    spool.commit(read.upto).unwrap();
    spool.read(3, 10_000).unwrap();
    assert_eq!(spool.held().entries, 7);
    spool.rewind();

    assert_eq!(drained(&mut spool), (3..10).collect::<Vec<_>>());
}

#[test]
fn what_an_earlier_process_left_is_there_from_where_it_was() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..2_000);
    let read = spool.read(1_000, 1 << 20).unwrap();
    assert_eq!(read.entries.len(), 1_000);
    spool.commit(read.upto).unwrap();
    // Like a kill: nothing is closed in an orderly way.
    drop(spool);

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();

    assert_eq!((found, spool.held().entries), (Found::default(), 1_000));
    assert_eq!(drained(&mut spool), (1_000..2_000).collect::<Vec<_>>());
}

/// A spool of ten entries, of which the last is not whole.
fn cut() -> TempDir {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..10);
    drop(spool);
    let file = segments(&folder).pop().unwrap();
    let length = fs::metadata(&file).unwrap().len();
    OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 5).unwrap();
    folder
}

#[test]
fn a_tail_that_was_cut_costs_its_own_entry_only() {
    let folder = cut();

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();
    append(&mut spool, 20..22);

    assert!(found.torn > 0 && found.damaged == 1, "{found:?}");
    assert_eq!(drained(&mut spool), (0..9).chain(20..22).collect::<Vec<_>>());
}

#[test]
fn a_tail_that_was_cut_is_counted_once_however_often_it_is_opened() {
    let folder = cut();

    let (spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();
    assert_eq!(found.damaged, 1);
    drop(spool);
    let (mut spool, again) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();

    assert_eq!(again, Found::default());
    assert_eq!(drained(&mut spool), (0..9).collect::<Vec<_>>());
}

/// Changes a byte of the only segment, so far from its end.
fn flip(folder: &TempDir, from_end: usize) {
    let file = segments(folder).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x40;
    File::create(&file).unwrap().write_all(&bytes).unwrap();
}

#[test]
fn an_entry_with_a_flipped_bit_costs_itself_only_and_is_counted() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..10);
    drop(spool);
    // The payload of the fifth.
    flip(&folder, 116 * 5 + 50);

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();
    let read = spool.read(100, 10_000).unwrap();

    assert_eq!(found, Found::default());
    assert_eq!(read.lost, 1);
    let left: Vec<u64> = read.entries.iter().map(|entry| entry.at).collect();
    assert_eq!(left, (0..4).chain(5..10).collect::<Vec<_>>());
    spool.commit(read.upto).unwrap();
    assert_eq!((spool.held(), segments(&folder).len()), (Held::default(), 0));
}

#[test]
fn what_stands_behind_a_length_that_is_wrong_is_counted() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..10);
    // The highest byte of the length of the fifth.
    flip(&folder, 116 * 6 - 3);

    let read = spool.read(100, 10_000).unwrap();
    assert_eq!((read.entries.len(), read.lost), (4, 6));
    drop(spool);

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();
    assert!(found.torn > 0 && found.damaged == 1, "{found:?}");
    assert_eq!(drained(&mut spool), [0, 1, 2, 3]);
}

#[test]
fn zeros_at_the_end_are_one_place_and_not_many_entries() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..3);
    drop(spool);
    let file = OpenOptions::new().write(true).open(segments(&folder).pop().unwrap()).unwrap();
    file.set_len(file.metadata().unwrap().len() + 4_096).unwrap();

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();

    assert_eq!((found.torn, found.damaged), (4_096, 1));
    assert_eq!(drained(&mut spool), [0, 1, 2]);
}

#[test]
fn a_segment_that_cannot_be_read_is_passed_over_and_counted() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    for part in 0..30 {
        append(&mut spool, part * 100..part * 100 + 100);
    }
    let files = segments(&folder);
    assert!(files.len() > 2, "{files:?}");
    // Root reads everything, but not what is a directory.
    fs::remove_file(&files[0]).unwrap();
    fs::create_dir(&files[0]).unwrap();
    fs::remove_file(&files[1]).unwrap();

    let read = spool.read(10, 10_000).unwrap();

    assert_eq!(read.entries.len(), 10);
    assert_eq!(read.lost, read.entries[0].at);
    assert!(read.why.is_some());
}

#[test]
fn a_segment_that_cannot_be_looked_through_is_laid_aside_at_the_start() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..3);
    drop(spool);
    fs::create_dir(folder.path().join("00000000000000ff.seg")).unwrap();

    let (mut spool, found) = Spool::open(folder.path(), "test", SIZE, SIZE / 8).unwrap();

    assert_eq!((found.aside.len(), found.damaged), (1, 1), "{found:?}");
    assert_eq!(drained(&mut spool), [0, 1, 2]);
    assert!(folder.path().join("00000000000000ff.unreadable").exists());
}

#[test]
fn what_nobody_asks_for_any_more_can_be_told() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..10);
    let read = spool.read(4, 10_000).unwrap();
    spool.commit(read.upto).unwrap();

    assert_eq!(left_in(folder.path()).unwrap(), None, "somebody uses it");
    drop(spool);

    let left = left_in(folder.path()).unwrap().unwrap();
    assert!(left.entries == 6 && left.bytes > 600, "{left:?}");
    assert_eq!(left_in(tempfile::tempdir().unwrap().path()).unwrap(), Some(Held::default()));
}

#[test]
fn the_oldest_go_when_it_is_full_and_are_counted() {
    let folder = folder();
    let size = 64 * 1024;
    let mut spool = open(&folder, size);

    let mut lost = 0;
    for start in (0..10_000).step_by(50) {
        lost += append(&mut spool, start..start + 50);
        assert!(spool.held().bytes <= size);
    }

    assert!(lost > 0);
    assert_eq!(drained(&mut spool), (lost..10_000).collect::<Vec<_>>());
}

#[test]
fn its_files_have_the_size_that_is_wanted() {
    let folder = folder();
    let mut spool = Spool::open(folder.path(), "test", SIZE, 16 * 1024).unwrap().0;

    append(&mut spool, 0..5_000);

    let sizes: Vec<u64> = segments(&folder).iter().map(|file| fs::metadata(file).unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 16 * 1024), "{sizes:?}");
    assert!(sizes.iter().rev().skip(1).all(|size| *size > 12 * 1024), "{sizes:?}");
}

#[test]
fn what_is_under_way_is_not_dropped_for_newer_ones() {
    let folder = folder();
    let mut spool = open(&folder, 64 * 1024);
    append(&mut spool, 0..20);
    let under_way = spool.read(10, 10_000).unwrap();

    let lost = append(&mut spool, 20..10_000);
    assert!(lost > 0);
    spool.rewind();
    let again = spool.read(10, 10_000).unwrap();
    assert_eq!((&again.entries, again.upto), (&under_way.entries, under_way.upto));
    spool.commit(again.upto).unwrap();

    let rest = drained(&mut spool);
    assert_eq!(10 + rest.len() as u64 + lost, 10_000);
    assert!(rest.is_sorted() && rest.last() == Some(&9_999));
}

#[test]
fn two_processes_do_not_share_one() {
    let folder = folder();
    let spool = open(&folder, SIZE);

    let second = Spool::open(folder.path(), "test", SIZE, SIZE / 8);

    assert_eq!(second.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(spool);
    open(&folder, SIZE);
}

#[test]
fn entries_for_another_kind_of_sink_are_removed_and_counted() {
    let folder = folder();
    let mut spool = open(&folder, SIZE);
    append(&mut spool, 0..10);
    drop(spool);

    let (spool, found) = Spool::open(folder.path(), "other", SIZE, SIZE / 8).unwrap();

    assert_eq!((found.foreign, spool.held().entries, segments(&folder).len()), (10, 0, 0));
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = folder();
    let place = folder.path().join("spool").join("sink");
    let (mut spool, _) = Spool::open(&place, "test", SIZE, SIZE / 8).unwrap();
    append(&mut spool, 0..1);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&spool.path(0))), (0o700, 0o600));
}
