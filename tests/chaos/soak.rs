//! Everything at once, for a long time: mixed traffic while replicas die, leave and come back and the configuration
//! changes. What is watched is what grows. What may be lost: what changes something and was under way when a replica died.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::load::tunnels::{End, Seen, Tunnels};
use crate::load::{Load, Shape};
use crate::report::{Broken, Finding, under_way_at};
use crate::stage::{Form, Proxy, Stage};
use crate::{machine, readme};

/// Time between two changes of the fleet.
const EACH: Duration = Duration::from_secs(20);

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// How much more memory the last quarter may need than the second, KiB: what allocators keep varies.
const MEMORY: f64 = 4_096.0;

/// How many more descriptors.
const DESCRIPTORS: f64 = 10.0;

/// What was seen at one moment.
#[derive(Clone, Copy)]
struct Look {
    at: Duration,
    requests: usize,
    failed: usize,
    memory: u64,
    descriptors: usize,
    connections: u64,
}

/// Soaks for `time`; says and, if wished, writes what it saw.
pub(crate) async fn run(binary: &Path, time: Duration, write: bool) -> ExitCode {
    let before = machine::family();
    let mut watch = machine::Watch::start();
    let stage = Stage::new(binary, Form::Whole, 0);
    let fleet = stage.fleet(4).await;
    let proxy = Proxy::start(&stage, &fleet).await;
    let steady = Load::start(&proxy.target(), &Shape::default());
    // Clients that come and go, and slow ones.
    let passing = Shape { afresh: true, pause: Duration::from_millis(400), ..Shape::default() };
    let passing = Load::start(&proxy.target(), &Shape { span: Duration::from_secs(3), ..passing });
    let tunnels = Tunnels::open(&proxy.target(), 20, Duration::from_millis(500), true);

    let began = Instant::now();
    let mut deaths = Vec::new();
    let (mut looks, mut change, mut turn) = (Vec::new(), began + EACH, 0_usize);
    let mut next = began;
    println!("{HEAD}");
    while began.elapsed() < time {
        next += LOOK;
        sleep_until(next).await;
        watch.look();
        let (requests, failed) = sum(steady.so_far(), passing.so_far());
        let connections = proxy.status().await["listeners"][0]["connections"].as_u64().unwrap_or(0);
        let (memory, descriptors) = (proxy.memory(), proxy.descriptors());
        let look = Look { at: began.elapsed(), requests, failed, memory, descriptors, connections };
        if minute(look.at) != looks.last().map(|last: &Look| minute(last.at)).unwrap_or(0) {
            println!("{}", look.row());
        }
        looks.push(look);
        if Instant::now() >= change {
            change += EACH;
            let replica = fleet.replica(turn % fleet.replicas.len());
            match turn % 3 {
                0 => {
                    deaths.push(Broken::by(replica.kill()).await);
                    let _address = replica.start().await;
                }
                1 => {
                    replica.finish().await;
                    let _address = replica.start().await;
                }
                // Leaves the configuration for a while; what it has in hand is finished.
                _ => {
                    let whole = proxy.config();
                    let name = format!("\"{}\"", replica.address);
                    proxy.reload(&whole.replace(&format!(", {name}"), "").replace(&format!("{name}, "), ""));
                    sleep_until(Instant::now() + LOOK).await;
                    proxy.reload(&whole);
                    next = Instant::now();
                }
            }
            turn += 1;
        }
    }

    let mut fates = steady.finish().await;
    fates.extend(passing.finish().await);
    let seen = tunnels.finish().await;
    let mut finding = Finding::of(&fates, &under_way_at(&deaths), &fleet, &[&proxy]);
    judge(&mut finding, &looks, &seen);
    let machine = watch.sentence(&before);
    let text = written(&finding, &looks, &machine, time, turn, deaths.len());
    println!("\n{text}");
    if write {
        readme::replace("soak", &text);
    }
    if finding.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Compares the last quarter with the second: by then everything has been used once.
fn judge(finding: &mut Finding, looks: &[Look], seen: &[Seen]) {
    let quarter = looks.len() / 4;
    let mean = |from: usize, value: &dyn Fn(&Look) -> f64| {
        let part: Vec<f64> = looks.iter().skip(from).take(quarter).map(value).collect();
        part.iter().sum::<f64>() / f64::from(u32::try_from(part.len().max(1)).expect("a few"))
    };
    let memory = |look: &Look| f64::from(u32::try_from(look.memory).unwrap_or(u32::MAX));
    let descriptors = |look: &Look| f64::from(u32::try_from(look.descriptors).unwrap_or(u32::MAX));
    let last = looks.len() - quarter;
    let more = mean(last, &memory) - mean(quarter, &memory);
    let open = mean(last, &descriptors) - mean(quarter, &descriptors);
    finding.insist(more < MEMORY, format!("memory grew by {more:.0} KiB"));
    finding.insist(open < DESCRIPTORS, format!("descriptors grew by {open:.1}"));
    finding.remark(format!(
        "from the second quarter to the last, memory changed by {more:+.0} KiB and descriptors by {open:+.1}, on average"
    ));
    let echoes: usize = seen.iter().map(|tunnel| tunnel.echoes).sum();
    let refused = seen.iter().filter(|tunnel| matches!(tunnel.end, End::Refused(_))).count();
    finding.insist(!seen.iter().any(|tunnel| tunnel.end == End::Wrong), "a tunnel gave a wrong echo");
    finding.remark(format!(
        "{} tunnels, {echoes} echoes, all of them right; {} ended with the replica behind them, {refused} did not open",
        seen.len(),
        seen.iter().filter(|tunnel| tunnel.end != End::Ours).count() - refused
    ));
}

const HEAD: &str = "| minute | requests | failed | memory, KiB | descriptors | client connections |\n\
                    | ---: | ---: | ---: | ---: | ---: | ---: |";

impl Look {
    fn row(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {} |",
            minute(self.at),
            self.requests,
            self.failed,
            self.memory,
            self.descriptors,
            self.connections
        )
    }
}

fn written(finding: &Finding, looks: &[Look], machine: &str, time: Duration, changes: usize, deaths: usize) -> String {
    let mut text = format!("{} minutes, {}; {machine}.\n\n{HEAD}\n", time.as_secs() / 60, readme::date());
    let mut shown = None;
    for look in looks.iter().filter(|look| shown.replace(minute(look.at)) != Some(minute(look.at))) {
        let _infallible = writeln!(text, "{}", look.row());
    }
    let _infallible = writeln!(
        text,
        "\n{changes} changes of the fleet, {deaths} of them by SIGKILL. {} requests, {} failed, of these unsafe to retry {}; \
         availability {:.4} %, class {}.",
        finding.requests,
        finding.failed,
        finding.unrepeatable,
        finding.availability(),
        finding.class()
    );
    for (protocol, count, failed) in &finding.protocols {
        let _infallible = writeln!(text, "- {}: {count} requests, {failed} failed.", protocol.name());
    }
    for remark in &finding.remarks {
        let _infallible = writeln!(text, "- {remark}.");
    }
    for wrong in &finding.wrong {
        let _infallible = writeln!(text, "- **Wrong**: {wrong}.");
    }
    text
}

fn minute(at: Duration) -> u64 {
    at.as_secs() / 60
}

fn sum(one: (usize, usize), other: (usize, usize)) -> (usize, usize) {
    (one.0 + other.0, one.1 + other.1)
}
