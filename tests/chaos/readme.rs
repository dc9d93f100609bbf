//! The tables of `tests/chaos/README.md`, from what was found.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Played;
use crate::report::{brief, perhaps};
use crate::scenarios::{self, Scenario};
use crate::stage::Form;

const HEAD: &str = "| scenario | requests | failed | unsafe to retry | longest gap | eject | return | availability | class | |\n\
                    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |";

/// Puts the scenarios' table in its place; of some scenarios, their rows.
pub(crate) fn write_scenarios(played: &[(&Scenario, Played)], form: Form, machine: &str) {
    let form = match form {
        Form::Short => "short",
        Form::Whole => "whole",
    };
    let readme = std::fs::read_to_string(path()).expect("tests/chaos/README.md");
    let old = section(&readme, "scenarios");
    let names: Vec<&str> = played.iter().map(|(scenario, _)| scenario.name).collect();
    let mut text = String::new();
    if names.len() == scenarios::ALL.len() {
        let _infallible = write!(text, "The {form} form, {}; {machine}.", date());
    } else {
        let _infallible = write!(text, "{}\n\n", old.split("\n\n|").next().unwrap_or_default().trim());
        let _infallible = write!(text, "Played again in the {form} form, {}: {}; {machine}.", date(), names.join(", "));
    }
    let _infallible = writeln!(text, "\n\n{HEAD}");
    let mut below = String::new();
    for scenario in scenarios::ALL {
        let name = scenario.name;
        match played.iter().find(|(other, _)| other.name == name) {
            Some((_, played)) => {
                text.push_str(&row(scenario, played));
                below.push_str(&paragraph(scenario, played));
            }
            None => {
                let (row, paragraph) = (format!("| {name} |"), format!("- **{name}**"));
                old.lines().filter(|line| line.starts_with(&row)).for_each(|line| text.extend([line, "\n"]));
                let of = old.lines().skip_while(|line| !line.starts_with(&paragraph));
                let (first, rest) = (of.clone().take(1), of.skip(1).take_while(|line| line.starts_with(' ')));
                first.chain(rest).for_each(|line| below.extend([line, "\n"]));
            }
        }
    }
    replace("scenarios", &format!("{text}\n{below}"));
}

fn row(scenario: &Scenario, played: &Played) -> String {
    let name = scenario.name;
    match played {
        Played::Skipped(why) => format!("| {name} | | | | | | | | | skipped: {why} |\n"),
        Played::Done(finding) => format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {:.3} % | {} | {} |\n",
            finding.requests,
            finding.failed,
            finding.unrepeatable,
            brief(finding.gap),
            perhaps(finding.eject),
            perhaps(finding.back),
            finding.availability(),
            finding.class(),
            if finding.wrong.is_empty() { "as stated" } else { "**not as stated**" },
        ),
    }
}

fn paragraph(scenario: &Scenario, played: &Played) -> String {
    let Scenario { name, fault, expected, .. } = scenario;
    let mut text = format!("- **{name}**: {fault}. Expected: {expected}.\n");
    if let Played::Done(finding) = played {
        for remark in &finding.remarks {
            let _infallible = writeln!(text, "  Found: {remark}.");
        }
        for wrong in &finding.wrong {
            let _infallible = writeln!(text, "  **Wrong**: {}.", wrong.lines().next().unwrap_or_default());
        }
    }
    text
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/README.md")
}

/// What stands between the marks of that name.
fn section<'a>(readme: &'a str, name: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("<!-- {name} -->")).expect("the mark");
    rest.split_once("<!-- end -->").expect("the end of the mark").0
}

/// Puts `text` between the marks of that name.
pub(crate) fn replace(name: &str, text: &str) {
    let readme = std::fs::read_to_string(path()).expect("tests/chaos/README.md");
    let marker = format!("<!-- {name} -->");
    let (before, rest) = readme.split_once(&marker).expect("the mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("the end of the mark");
    std::fs::write(path(), format!("{before}{marker}\n\n{}\n\n<!-- end -->{after}", text.trim())).expect("the README");
}

/// Today.
pub(crate) fn date() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}
