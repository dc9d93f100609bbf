//! The text of findings, compared with `tests/golden/config/*.findings`.
//!
//! `SLUICEGATE_BLESS=1 cargo test --lib config` writes them anew; read the difference before it is committed.

use super::*;

/// Compares with what was blessed, or blesses.
fn golden(name: &str, text: &str) {
    let file = repository("tests/golden/config").join(name);
    if std::env::var_os("SLUICEGATE_BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let blessed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(blessed == text, "{} differs; found:\n{text}", file.display());
}

fn findings(name: &str) -> Findings {
    let text = std::fs::read_to_string(repository("tests/golden/config").join(name)).unwrap();
    match Config::parse(&text, Path::new(name)) {
        Ok(loaded) => loaded.warnings,
        Err(findings) => findings,
    }
}

#[test]
fn findings_say_what_they_have_always_said() {
    let folder = std::fs::read_dir(repository("tests/golden/config")).unwrap();
    let mut names: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".toml"));
    assert!(names.len() >= 10);

    for name in names {
        let found = findings(&name);

        assert!(!found.is_empty(), "{name} has no findings");
        golden(&name.replace(".toml", ".findings"), &format!("{}\n", found.render(false)));
    }
}

#[test]
fn a_finding_names_its_place_in_one_line() {
    let found = parse("[[listeners]]\naddress = '127.0.0.1:80'\n[pools.a]\nendpoints = ['a:1']\nmax_idle = 'é'\n");

    let line = found.unwrap_err().to_string();

    let problem = "`pools.a.max_idle` cannot be a string, found \"é\", expected an integer from 0 to 10,000";
    assert_eq!(line, format!("/etc/sluicegate/superset.toml:5:12: error: {problem}"));
}

#[test]
fn columns_count_characters() {
    let found = parse("listeners = [{ name = 'é', adress = '' }]\n").unwrap_err();

    let unknown = found.iter().find(|finding| finding.key == "listeners[0].adress").unwrap();

    assert_eq!((unknown.line, unknown.column), (1, 28));
}

#[test]
fn secrets_are_never_shown() {
    let bad = [
        "fleet_secret = 'hunter2'",
        "fleet_secret = hunter2",
        "fleet_secret = \"hunter2",
        "fleet_secret = { env = 'hunter2!' , fil = 1 }\nfleet_secret = 'hunter2'",
    ];
    for line in bad {
        let found = parse(&format!("[process]\n{line}\n")).unwrap_err();

        let shown = format!("{} {found} {found:?}", found.render(false));

        assert!(
            !shown.contains("hunter2\"") && !shown.contains("'hunter2'") && !shown.contains("= hunter2"),
            "{shown}"
        );
    }
    let headers = parse("pools.a.health.headers = { authorization = 'Bearer hunter2', x = 1, 'ö' = 'hunter2' }");
    let shown = format!("{:?}", headers.unwrap_err());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn passwords_before_a_host_are_never_shown() {
    let sink = |url: &str| format!("[[access_log.sinks]]\nname = 's'\nhttp = {{ to = {{ url = '{url}', x = 1 }} }}\n");
    let long = format!("https://svc:S3cret{}@host", "x".repeat(100));
    for text in [
        sink("https://svc:S3cret@host/logs"),
        sink(&long),
        "[redis]\naddresses = ['svc:S3cret@redis:6379']\n".to_owned(),
        "[redis]\naddresses = ['a:6379', \"redis://:S3cret@redis\"]\n".to_owned(),
        "[redis]\naddresses = ['svc:S3cret@redis:6379'\n".to_owned(),
        "[pools.a]\nendpoints = ['http://svc:S3cret@app:8088']\n".to_owned(),
        sink("https://svc:S3cret `and S3cret@host/logs"),
        "[redis]\naddresses = [\"svc:S3cret' and S3cret@redis:6379\"]\n".to_owned(),
        "[redis]\naddresses = [\"svc:S3cret and S3cret@redis:6379\"\n".to_owned(),
    ] {
        let found = parse(&text).unwrap_err();

        let shown = format!("{} {found} {found:?}", found.render(false));

        assert!(shown.contains("***@") || shown.contains("**@"), "{shown}");
        assert!(!shown.contains("S3cret"), "{shown}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let (binary, huge) = (folder.path().join("binary"), folder.path().join("huge"));
    std::fs::write(&binary, b"[process]\n\xff").unwrap();
    std::fs::write(&huge, vec![b'#'; 5 << 20]).unwrap();
    let problem = |file: &Path| Config::load(file).unwrap_err().to_string();

    assert!(problem(&folder.path().join("none")).contains("cannot be read"));
    assert!(problem(folder.path()).contains("cannot be read"));
    assert!(problem(&binary).contains("is not UTF-8 from byte 10"));
    assert!(problem(&huge).contains("is longer than 4 MiB"));
}

#[test]
fn findings_are_bounded() {
    let many: String = (0..10_000).map(|at| format!("x{at} = 1\n")).collect();

    let found = parse(&many).unwrap_err();

    assert_eq!(found.len(), 100);
}

#[test]
fn terminal_commands_in_a_file_are_not_obeyed() {
    let found = parse("pools.a.endpoints = ['\u{1b}[31m\u{7f}']\nlisteners = '\u{202e}'").map(|_| ()).unwrap_err();

    let shown = found.render(false);

    assert!(!shown.contains(['\u{1b}', '\u{7f}', '\u{202e}']), "{shown:?}");
}
