//! Files that are rotated, moved and deleted.

use super::*;

#[test]
fn rotation_loses_no_line_and_keeps_so_many_files() {
    let (folder, path) = folder();
    let (log, metrics) = start(rotated(&path, 20_000, 100));
    let emitter = log.worker();

    for number in 0..2_000 {
        emitter.emit(numbered(number));
    }
    assert!(log.flush(SOON));

    let mut all = numbers(&path);
    let mut files = 1;
    for index in 1.. {
        let rotated = folder.path().join(format!("access.log.{index}"));
        if !rotated.exists() {
            break;
        }
        assert!(fs::metadata(&rotated).unwrap().len() <= 20_000);
        let mut older = numbers(&rotated);
        older.extend(all);
        all = older;
        files += 1;
    }
    assert_eq!(all, (0..2_000).collect::<Vec<_>>());
    assert!(files > 10);
    assert_eq!((metrics.written.get(), metrics.errors.get()), (2_000, 0));
}

#[test]
fn rotated_files_are_compressed_and_counted_like_others() {
    use std::io::Read as _;

    let (folder, path) = folder();
    let mut sink = rotated(&path, 20_000, 2);
    if let Destination::File(file) = &mut sink.to {
        file.gzip = true;
    }
    let (log, metrics) = start(sink);
    let emitter = log.worker();
    let packed = |index: u32| folder.path().join(format!("access.log.{index}.gz"));

    for round in 0..3 {
        for number in 0..30 {
            emitter.emit(numbered(round * 30 + number));
        }
        assert!(log.flush(SOON));
        eventually("the compressed file", || packed(1).exists() && !folder.path().join("access.log.1").exists());
    }

    eventually("no third file", || packed(2).exists() && !packed(3).exists());
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(packed(1)).unwrap()).read_to_string(&mut text).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()) && !text.is_empty());
    assert_eq!((metrics.written.get(), metrics.errors.get()), (90, 0));
}

#[test]
fn file_that_is_old_is_rotated_whatever_its_size() {
    let (folder, path) = folder();
    let mut sink = to_file(&path);
    if let Destination::File(file) = &mut sink.to {
        file.rotate_every = Some(Duration::from_millis(1_200));
    }
    let (log, _) = start(sink);
    let emitter = log.worker();

    emitter.emit(numbered(1));
    eventually("the rotation", || folder.path().join("access.log.1").exists());
    emitter.emit(numbered(2));
    assert!(log.flush(SOON));

    assert_eq!(numbers(&folder.path().join("access.log.1")), [1]);
    assert_eq!(numbers(&path), [2]);
}

#[test]
fn rotated_files_beyond_the_kept_ones_go() {
    let (folder, path) = folder();
    let (log, _) = start(rotated(&path, 1_000, 2));
    let emitter = log.worker();

    for number in 0..50 {
        emitter.emit(numbered(number));
    }
    assert!(log.flush(SOON));

    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["access.log", "access.log.1", "access.log.2"]);
    assert_eq!(numbers(&path).last(), Some(&49));
}

#[test]
fn reopen_after_a_move_continues_in_a_new_file() {
    let (folder, path) = folder();
    let (log, _) = start(to_file(&path));
    let emitter = log.worker();
    emitter.emit(numbered(1));
    assert!(log.flush(SOON));

    let moved = folder.path().join("moved.log");
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    emitter.emit(numbered(2));
    assert!(log.flush(SOON));

    let mut all = numbers(&moved);
    all.extend(numbers(&path));
    assert_eq!(all, [1, 2]);
    assert!(path.exists());
}

#[test]
fn deleted_file_is_noticed_and_made_anew() {
    let (_folder, path) = folder();
    let (log, _) = start(to_file(&path));
    let emitter = log.worker();
    emitter.emit(numbered(1));
    assert!(log.flush(SOON));

    fs::remove_file(&path).unwrap();
    eventually("the new file", || path.exists());
    emitter.emit(numbered(2));
    assert!(log.flush(SOON));

    assert_eq!(numbers(&path), [2]);
}
