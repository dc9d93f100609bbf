//! The tables of `tests/chaos/README.md`, from what was found.

use std::fmt::Write as _;
use std::path::Path;

use crate::Played;
use crate::report::{brief, perhaps};
use crate::scenarios::Scenario;
use crate::stage::Form;

/// Puts the scenarios' table in its place.
pub(crate) fn write_scenarios(played: &[(&Scenario, Played)], form: Form, machine: &str) {
    let mut text = format!(
        "{}, {}; {machine}.\n\n| scenario | requests | failed | unsafe to retry | longest gap | eject | return | availability | class | |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
        match form {
            Form::Short => "The short form",
            Form::Whole => "The whole form",
        },
        date(),
    );
    let mut below = String::new();
    for (scenario, played) in played {
        let Scenario { name, fault, expected, .. } = scenario;
        let _infallible = match played {
            Played::Skipped(why) => writeln!(text, "| {name} | | | | | | | | | skipped: {why} |"),
            Played::Done(finding) => writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {} | {} | {:.3} % | {} | {} |",
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
        };
        let _infallible = writeln!(below, "- **{name}**: {fault}. Expected: {expected}.");
        if let Played::Done(finding) = played {
            for remark in &finding.remarks {
                let _infallible = writeln!(below, "  Found: {remark}.");
            }
            for wrong in &finding.wrong {
                let _infallible = writeln!(below, "  **Wrong**: {}.", wrong.lines().next().unwrap_or_default());
            }
        }
    }
    replace("scenarios", &format!("{text}\n{below}"));
}

/// Puts `text` between the marks of that name.
pub(crate) fn replace(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/README.md");
    let readme = std::fs::read_to_string(&path).expect("tests/chaos/README.md");
    let marker = format!("<!-- {name} -->");
    let (before, rest) = readme.split_once(&marker).expect("the mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("the end of the mark");
    std::fs::write(&path, format!("{before}{marker}\n\n{}\n\n<!-- end -->{after}", text.trim())).expect("the README");
}

/// Today.
pub(crate) fn date() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d").to_string()
}
