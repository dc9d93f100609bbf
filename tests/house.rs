//! What Cargo would enforce between crates, enforced within one: floors, module docs, file sizes, names; and that every
//! text which shows a configuration shows one that resolves.
//!
//! `UPDATE=1 cargo test --test house` rewrites the README's generated tables.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on panics; the exemption for tests does not reach what they share"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate::config::{self, Config};
use sluicegate::telemetry;

/// Modules that see a neighbour on their own floor, and why. Short, or the floors mean nothing.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("body", "head", "trailers are fields"),
    ("body", "lexicon", "a body that is late names the clock"),
    ("h1", "message", "the codec names its refusals with the words of the seam"),
    ("h3", "message", "the codec names its refusals with the words of the seam"),
    ("upstream", "net", "an upstream connection is a socket with a timer"),
];

/// Files that start tasks: accept loops, connections and what is supervised. Everywhere else work belongs to the task
/// that wants it.
const SPAWNING: &[&str] = &[
    "src/app/admin.rs",
    "src/app/start.rs",
    "src/serve/h2/exchange.rs",
    "src/serve/h3/exchange.rs",
    "src/serve/quic/runtime.rs",
    "src/serve/worker.rs",
];

/// Lines of a file before its tests.
const LONGEST: usize = 400;

const GRAB_BAGS: &[&str] =
    &["utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "types", "stuff"];

/// Suffixes that say nothing, and words outside the lexicon.
const SUFFIXES: &[&str] =
    &["Manager", "Handler", "Helper", "Utils", "Util", "Info", "Context", "Ctx", "Backend", "Node"];

/// A source file, in its place.
struct Source {
    /// From the root, with slashes.
    path: String,
    /// The module below the crate's root: `serve` of `src/serve/h1/mod.rs`.
    module: String,
    text: String,
}

impl Source {
    fn is_test(&self) -> bool {
        let path = &self.path;
        path.contains("/tests/") || path.ends_with("tests.rs") || path.ends_with("/testing.rs")
    }

    /// The text before its tests.
    fn shipped(&self) -> &str {
        if self.is_test() {
            return "";
        }
        // A module of tests ends the file; a lone item for tests does not.
        let mut from = 0;
        while let Some(found) = self.text[from..].find("#[cfg(test)]") {
            let at = from + found;
            let next = self.text[at..].lines().nth(1).unwrap_or_default();
            if next.starts_with("mod tests") || next.starts_with("mod ") {
                return &self.text[..at];
            }
            from = at + 1;
        }
        &self.text
    }

    /// The shipped lines with their numbers, comments cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.shipped().lines().enumerate().filter_map(|(index, line)| {
            let code = match line.find("//") {
                // A URL in a string is no comment.
                Some(at) if !line[..at].ends_with(':') => &line[..at],
                _ => line,
            };
            (!code.trim().is_empty()).then_some((index + 1, code))
        })
    }
}

#[test]
fn modules_use_only_lower_floors() {
    let floors = floors();
    let mut wrong = Vec::new();

    for source in sources().iter().filter(|source| source.module != "lib" && source.module != "main") {
        let Some(own) = floors.get(&source.module) else {
            wrong.push(format!("{}: `{}` has no floor in src/lib.rs", source.path, source.module));
            continue;
        };
        for (line, code) in source.code() {
            for used in crate_modules(code) {
                let neighbour = NEIGHBOURS.iter().any(|(by, of, _)| *by == source.module && *of == used);
                match floors.get(used) {
                    _ if used == source.module || neighbour => {}
                    Some(floor) if floor < own => {}
                    Some(floor) => wrong.push(format!(
                        "{}:{line}: `{}` (floor {own}) uses `{used}` (floor {floor})",
                        source.path, source.module
                    )),
                    None => wrong.push(format!("{}:{line}: `{used}` has no floor in src/lib.rs", source.path)),
                }
            }
        }
    }

    nothing(&wrong);
}

#[test]
fn no_neighbour_is_excused_for_nothing() {
    let sources = sources();
    let floors = floors();
    let unused: Vec<String> = NEIGHBOURS
        .iter()
        .filter(|(by, of, _)| {
            floors.get(*by) != floors.get(*of)
                || !sources
                    .iter()
                    .filter(|source| source.module == *by)
                    .any(|source| source.code().any(|(_, code)| crate_modules(code).contains(of)))
        })
        .map(|(by, of, _)| format!("`{by}` need not see `{of}`"))
        .collect();

    nothing(&unused);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut wrong = Vec::new();
    let floors = floors();

    for source in sources() {
        let front = source.path == "src/lib.rs" && source.text.starts_with("#![doc = include_str!(");
        if !source.text.starts_with("//! ") && !front {
            wrong.push(format!("{}: does not begin with `//!`", source.path));
        }
        let root = [format!("src/{}.rs", source.module), format!("src/{}/mod.rs", source.module)];
        let Some(floor) = floors.get(&source.module).filter(|_| root.contains(&source.path)) else {
            continue;
        };
        let doc: String = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
        if !doc.contains(&format!("Floor {floor}")) {
            wrong.push(format!("{}: its doc does not say `Floor {floor}`", source.path));
        }
    }

    nothing(&wrong);
}

#[test]
fn no_file_is_longer_than_one_can_hold_in_mind() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source, source.shipped().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(source, lines)| format!("{}: {lines} lines before its tests", source.path))
        .collect();

    nothing(&long);
}

#[test]
fn names_say_the_role() {
    let mut wrong = Vec::new();

    for source in sources() {
        for part in source.path.trim_end_matches(".rs").split('/') {
            if GRAB_BAGS.contains(&part) {
                wrong.push(format!("{}: `{part}` is a drawer, not a role", source.path));
            }
        }
        for (line, code) in source.code() {
            let words: Vec<&str> = code.split_whitespace().collect();
            let names = words.windows(2).filter(|pair| ["struct", "enum", "trait", "type"].contains(&pair[0]));
            for name in names.map(|pair| pair[1].split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default()) {
                if SUFFIXES.iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix)) {
                    wrong.push(format!("{}:{line}: `{name}` ends in a word that says nothing", source.path));
                }
            }
        }
    }

    nothing(&wrong);
}

#[test]
fn nothing_in_the_code_knows_affinity() {
    let words = ["sticky", "stickiness", "affinity"];
    let mut wrong = Vec::new();

    for source in sources() {
        for (line, code) in source.code() {
            let code = code.to_lowercase();
            if words.iter().any(|word| code.contains(word)) {
                wrong.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }

    nothing(&wrong);
}

#[test]
fn configuration_as_typed_stays_within_config() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|source| source.module != "config")
        .flat_map(|source| {
            let found = source.code().filter(|(_, code)| code.contains("config::raw") || code.contains("raw::Raw"));
            found.map(|(line, _)| format!("{}:{line}", source.path)).collect::<Vec<_>>()
        })
        .collect();

    nothing(&wrong);
}

#[test]
fn quinn_stays_within_its_module() {
    let mut wrong = Vec::new();

    for source in sources().iter().filter(|source| !source.path.starts_with("src/serve/quic/")) {
        for (line, code) in source.code() {
            if code.contains("quinn::") || code.contains("quinn_proto") {
                wrong.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }

    nothing(&wrong);
}

#[test]
fn tasks_start_in_few_places() {
    let mut wrong = Vec::new();

    for source in sources() {
        if SPAWNING.iter().any(|allowed| source.path.starts_with(allowed)) {
            continue;
        }
        for (line, code) in source.code() {
            if code.contains("tokio::spawn(") || code.contains("spawn_local(") || code.contains("task::spawn(") {
                wrong.push(format!("{}:{line}: {}", source.path, code.trim()));
            }
        }
    }

    nothing(&wrong);
}

#[test]
fn every_example_file_resolves() {
    let mut files = Vec::new();
    for place in ["config", "docker"] {
        walk(&root().join(place), &mut files);
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(!files.is_empty());

    for file in files {
        resolves(&fs::read_to_string(&file).expect("an example"), &file);
    }
}

#[test]
fn files_of_kubernetes_are_the_examples() {
    for (example, copy) in [
        ("config/kubernetes.toml", "docker/kubernetes/edge/sluicegate.toml"),
        ("config/sidecar.toml", "docker/kubernetes/sidecar/sluicegate.toml"),
        ("docker/grafana/dashboard.json", "docker/kubernetes/edge/dashboard.json"),
    ] {
        let read = |path: &str| fs::read_to_string(root().join(path)).expect("an example");
        // kustomize takes no file from outside its directory.
        assert_eq!(read(example), read(copy), "cp {example} {copy}");
    }
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_exist() {
    let families = telemetry::metrics::FAMILIES;
    let mut unknown = Vec::new();

    for file in ["docker/grafana/dashboard.json", "docker/prometheus/rules.yaml"] {
        let text = fs::read_to_string(root().join(file)).expect("a file of Prometheus or Grafana");
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = text.split(|c| !word(c) && c != ':').filter(|name| !name.contains(':'));
        let names: Vec<&str> =
            names.filter(|name| name.starts_with("sluicegate_") || name.starts_with("process_")).collect();
        assert!(names.len() > 20, "{file}");
        for name in names {
            let parts = ["_bucket", "_sum", "_count"];
            let family = families.iter().find(|family| {
                let full = family.full_name();
                let of_histogram = family.kind == telemetry::metrics::Kind::Histogram
                    && parts.iter().any(|part| name.strip_suffix(part) == Some(&full));
                full == name || of_histogram
            });
            match family {
                None => unknown.push(format!("{file}: {name}")),
                Some(family) => {
                    // Labels that stand in a selector right behind the name.
                    let opened = format!("{name}{{");
                    let wanted = text.match_indices(&opened).flat_map(|(at, found)| {
                        let selector = text[at + found.len()..].split('}').next().unwrap_or_default();
                        selector.split(',').map(|matcher| matcher.split(['=', '!']).next().unwrap_or_default().trim())
                    });
                    let known =
                        |label: &&str| family.labels.contains(label) || ["instance", "job", "le", ""].contains(label);
                    unknown
                        .extend(wanted.filter(|label| !known(label)).map(|label| format!("{file}: {name}{{{label}}}")));
                }
            }
        }
    }

    nothing(&unknown);
}

#[test]
fn every_toml_block_of_a_page_resolves() {
    let mut pages = vec![root().join("README.md")];
    walk(&root().join("docker"), &mut pages);
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));

    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for block in text.split("```toml\n").skip(1) {
            let (text, _) = block.split_once("```").expect("the block ends");
            resolves(text, &page);
        }
    }
}

#[test]
fn tables_of_the_readme_are_what_the_library_generates() {
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md");
    let sections = [
        ("config", config::reference()),
        ("metrics", telemetry::metrics::reference()),
        ("record", telemetry::format::reference()),
    ];

    let mut wanted = readme.clone();
    for (name, text) in sections {
        let marker = format!("<!-- generated: {name} -->");
        let (before, rest) = wanted.split_once(&marker).unwrap_or_else(|| panic!("README.md has no `{marker}`"));
        let (_, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("`{marker}` has no end"));
        wanted = format!("{before}{marker}\n\n{}\n\n<!-- end -->{after}", text.trim());
    }

    if wanted != readme && std::env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).expect("README.md");
        return;
    }
    assert!(wanted == readme, "README.md is behind: UPDATE=1 cargo test --test house");
}

#[test]
fn readme_names_every_setting_that_needs_a_restart() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file of ours");
    let (readme, reload) = (read("README.md"), read("src/app/reload.rs"));
    let (_, list) = readme.split_once("What needs a restart").expect("what needs a restart");
    let (list, _) = list.split_once("\n### ").expect("a section behind it");
    let (_, code) = reload.split_once("fn fixed_at_start").expect("what is fixed at the start");

    let keys = code.split('"').skip(1).step_by(2).filter(|text| !text.contains(' '));
    let keys: Vec<String> = keys.map(|key| format!("`{}`", key.replace("{}.", ""))).collect();
    assert!(keys.len() > 20, "{keys:?}");
    let missing: Vec<String> = keys.iter().filter(|key| !list.contains(*key)).cloned().collect();
    nothing(&missing);
    let named = list.split('`').skip(1).step_by(2).map(|key| format!("`{key}`"));
    let wrong: Vec<String> = named.filter(|key| !keys.contains(key)).collect();
    nothing(&wrong);
}

#[test]
fn nothing_tracked_names_a_place_of_ours_or_a_debt() {
    // Put together here, so that this file does not find itself.
    let debts = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let places = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];
    let mut wrong = Vec::new();

    for path in tracked() {
        // Binary files and files that were deleted but not yet committed.
        let Ok(text) = fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if debts.iter().chain(&places).any(|word| line.contains(word)) {
                wrong.push(format!("{path}:{}: {}", index + 1, line.trim()));
            }
        }
    }

    nothing(&wrong);
}

/// Modules of the crate named on a line: `use crate::config::Pool` gives `config`.
fn crate_modules(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut start = true;
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    ',' => start = depth == 0,
                    c if start && c.is_alphanumeric() => {
                        found.push(&list[at..at + word(&list[at..])]);
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push(&rest[..word(rest)]);
        }
    }
    // Types of the crate's root and macros are no modules.
    found.retain(|name| name.starts_with(|c: char| c.is_lowercase()));
    found
}

/// The floor of each module, as src/lib.rs has them: `// Floor 2: ...`, then its modules.
fn floors() -> BTreeMap<String, u32> {
    let mut floors = BTreeMap::new();
    let mut floor = None;
    for line in fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs").lines() {
        if let Some(rest) = line.strip_prefix("// Floor ") {
            floor = rest.split(':').next().and_then(|number| number.parse().ok());
        }
        let module = line.trim_start_matches("pub ").strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'));
        if let Some(module) = module {
            let floor = floor.unwrap_or_else(|| panic!("`{module}` stands under no floor"));
            floors.insert(module.to_owned(), floor);
        }
    }
    floors
}

fn resolves(text: &str, file: &Path) {
    if let Err(findings) = Config::parse(text, file) {
        panic!("{} does not resolve: {findings:#?}\n{text}", file.display());
    }
}

fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let place = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
            let module = place.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
            Source { module: module.to_owned(), text: fs::read_to_string(&path).expect("a source"), path: place }
        })
        .collect()
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// What git tracks; empty outside a clone, where there is nothing to keep clean.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    let text = listed.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}
