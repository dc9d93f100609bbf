//! Faults on real processes: what no single failure may cost, shown by a load that counts each request's fate.
//!
//! ```text
//! cargo test --test chaos                          every scenario in its short form, several at a time: what tests/run does
//! cargo test --release --test chaos -- --whole     every scenario at length, one after the other
//! ... -- --whole --write                           and the table of tests/chaos/README.md from what was found
//! ... -- --soak 20                                 twenty minutes of mixed traffic with endpoints coming and going
//! ... -- kill stop                                 scenarios with these words in their names
//! ... -- --binary target/dist/sluicegate           another build of the proxy
//! ```
//!
//! The suite is a process that starts proxies (the binary) and replicas (itself, see [`replica`]) and asks over real
//! sockets. All of it happens in a network namespace of its own, where the system gives one; scenarios that cut wires
//! are skipped, with a word, where it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a suite that cannot go on panics, and says what it found where one looks for it"
)]

mod content;
mod load;
mod machine;
mod readme;
mod replica;
mod report;
mod scenarios;
mod soak;
mod stage;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

use report::{Finding, brief, perhaps};
use scenarios::{Needs, Scenario};
use stage::{Form, Stage, wires};

/// Scenarios at once in the short form: most of their time they wait.
const AT_ONCE: usize = 6;

/// Longest that any scenario may take.
const LONGEST: Duration = Duration::from_secs(300);

/// What was asked for.
#[derive(Default)]
struct Wanted {
    whole: bool,
    write: bool,
    list: bool,
    soak: Option<u64>,
    /// The proxy; the one that was built with the suite when `None`.
    binary: Option<PathBuf>,
    /// Scenarios at once.
    at_once: Option<usize>,
    names: Vec<String>,
}

/// What came of a scenario.
enum Played {
    Done(Finding),
    Skipped(String),
}

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "replica") {
        replica::run(&words[1..]);
        return ExitCode::SUCCESS;
    }
    let inside = words.first().is_some_and(|word| word == wires::INSIDE);
    if inside {
        words.remove(0);
        wires::settle();
    }
    let wanted = Wanted::of(&words);
    if !inside
        && !wanted.list
        && let Some(code) = wires::enter(&words)
    {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(run(wanted)))
}

impl Wanted {
    fn of(words: &[String]) -> Self {
        let mut wanted = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let number = |words: &mut std::slice::Iter<'_, String>| {
                words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number")
            };
            match word.as_str() {
                "--whole" => wanted.whole = true,
                "--write" => wanted.write = true,
                "--list" => wanted.list = true,
                "--binary" => wanted.binary = words.next().map(PathBuf::from),
                "--soak" => wanted.soak = Some(number(&mut words)),
                "--at-once" => wanted.at_once = usize::try_from(number(&mut words)).ok(),
                name if name.starts_with('-') => panic!("no such option: {name}"),
                name => wanted.names.push(name.to_owned()),
            }
        }
        wanted
    }

    fn wants(&self, scenario: &Scenario) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| scenario.name.contains(name.as_str()))
    }
}

async fn run(wanted: Wanted) -> ExitCode {
    if wanted.list {
        for scenario in scenarios::ALL {
            println!("{}", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_sluicegate"));
    let binary = wanted.binary.clone().unwrap_or_else(built);
    if let Some(minutes) = wanted.soak {
        return soak::run(&binary, Duration::from_secs(minutes * 60), wanted.write).await;
    }
    let form = if wanted.whole { Form::Whole } else { Form::Short };
    let at_once = wanted.at_once.unwrap_or(if wanted.whole { 1 } else { AT_ONCE });
    let before = machine::family();
    let watch = Rc::new(tokio::sync::Mutex::new(machine::Watch::start()));
    let keeping = Rc::clone(&watch);
    let keeper = tokio::task::spawn_local(async move { keeping.lock().await.keep().await });
    let began = Instant::now();

    let chosen = scenarios::ALL.iter().enumerate().filter(|(_, scenario)| wanted.wants(scenario));
    let binary = binary.as_path();
    let playing = futures_util::stream::iter(chosen.map(|(number, scenario)| async move {
        let began = Instant::now();
        let played = play(scenario, binary, form, u8::try_from(number).expect("a few")).await;
        say(scenario, &played, began.elapsed());
        (number, scenario, played)
    }));
    let mut played: Vec<_> = playing.buffer_unordered(at_once).collect().await;
    played.sort_by_key(|(number, ..)| *number);
    let played: Vec<_> = played.into_iter().map(|(_, scenario, played)| (scenario, played)).collect();

    keeper.abort();
    drop(keeper.await);
    let machine = watch.lock().await.sentence(&before);
    let failed: Vec<&str> = played.iter().filter(|(_, played)| played.is_wrong()).map(|(s, _)| s.name).collect();
    let skipped = played.iter().filter(|(_, played)| matches!(played, Played::Skipped(_))).count();
    println!("\n{machine}");
    println!(
        "chaos: {} scenarios, {} failed, {skipped} skipped, in {}",
        played.len(),
        failed.len(),
        brief(began.elapsed())
    );
    if wanted.write {
        readme::write_scenarios(&played, form, &machine);
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("chaos: FAILED: {}", failed.join(", "));
    ExitCode::FAILURE
}

async fn play(scenario: &Scenario, binary: &Path, form: Form, number: u8) -> Played {
    let available = match scenario.needs {
        Needs::Nothing => Ok(()),
        Needs::Wires => wires::available(),
        Needs::Redis => redis(),
    };
    if let Err(why) = available {
        return Played::Skipped(why);
    }
    let stage = Stage::new(binary, form, number);
    let wrong = match timeout(LONGEST, AssertUnwindSafe((scenario.play)(&stage)).catch_unwind()).await {
        Ok(Ok(finding)) => return Played::Done(finding),
        Ok(Err(_)) => "it panicked, as said above".to_owned(),
        Err(_) => format!("not over after {LONGEST:?}"),
    };
    Played::Done(Finding { wrong: vec![wrong], ..Finding::default() })
}

/// Whether there is a Redis to break.
fn redis() -> Result<(), String> {
    let found = std::process::Command::new("redis-server").arg("--version").output();
    found.map(drop).map_err(|_| "redis-server is not installed (the package of that name from Debian)".to_owned())
}

impl Played {
    fn is_wrong(&self) -> bool {
        matches!(self, Self::Done(finding) if !finding.wrong.is_empty())
    }
}

/// Prints what a scenario states and what it found.
fn say(scenario: &Scenario, played: &Played, took: Duration) {
    println!("\n{} ({})", scenario.name, brief(took));
    println!("  fault     {}", scenario.fault);
    println!("  expected  {}", scenario.expected);
    let finding = match played {
        Played::Skipped(why) => return println!("  SKIPPED   {why}"),
        Played::Done(finding) => finding,
    };
    let protocols: Vec<String> = finding
        .protocols
        .iter()
        .map(|(protocol, count, failed)| format!("{} {count} ({failed} failed)", protocol.name()))
        .collect();
    println!("  requests  {}: {}", finding.requests, protocols.join(", "));
    println!("  failed    {}, of these unsafe to retry {}", finding.failed, finding.unrepeatable);
    println!(
        "  times     longest gap {}, slowest answer {}, to eject {}, to return {}",
        brief(finding.gap),
        brief(finding.slowest),
        perhaps(finding.eject),
        perhaps(finding.back)
    );
    println!("  available {:.3} %, class {}", finding.availability(), finding.class());
    for remark in &finding.remarks {
        println!("  remark    {remark}");
    }
    for wrong in &finding.wrong {
        println!("  WRONG     {wrong}");
    }
    println!("  {}", if finding.wrong.is_empty() { "passed" } else { "FAILED" });
}
