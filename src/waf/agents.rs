//! What a user agent says that it is.
//!
//! Part of `waf`. The texts are those of crawler-user-agents (`data/agents.tsv`, brought up to date by `data/update`)
//! and a few of our own (`data/own.tsv`). One automaton finds all of them in a single pass, in time linear in the length
//! whatever a client sends. What none of them is in is a browser if it looks like one, and a tool if not: no browser
//! has left out `Mozilla/5.0 (` for twenty years.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};

use crate::lexicon::AgentClass;

/// Bytes of a user agent that are looked at; no browser's has half as many.
pub const LONGEST: usize = 1_024;

const MAINTAINED: &str = include_str!("data/agents.tsv");
const OWN: &str = include_str!("data/own.tsv");

/// All texts.
struct Agents {
    automaton: AhoCorasick,
    /// By place in the automaton.
    texts: Vec<Text>,
}

#[derive(Clone, Copy)]
struct Text {
    class: AgentClass,
    at_start: bool,
    at_end: bool,
    /// Counts only if no other is found.
    is_vague: bool,
}

/// What `agent`, the value of `User-Agent`, says that it is.
pub fn classify(agent: Option<&[u8]>) -> AgentClass {
    let Some(agent) = agent.map(<[u8]>::trim_ascii).filter(|agent| !agent.is_empty()) else {
        return AgentClass::None;
    };
    let agent = agent.get(..LONGEST).unwrap_or(agent);
    let otherwise = match [&b"Mozilla/5.0 ("[..], b"Mozilla/4.0 (", b"Opera/"].iter().any(|all| agent.starts_with(all))
    {
        true => AgentClass::Browser,
        false => AgentClass::Tool,
    };
    let agents = agents();
    let (mut worst, mut vague) = (None, None);
    for found in agents.automaton.find_overlapping_iter(agent) {
        let Some(text) = agents.texts.get(found.pattern().as_usize()) else { continue };
        if (!text.at_start || found.start() == 0) && (!text.at_end || found.end() == agent.len()) {
            let severest = if text.is_vague { &mut vague } else { &mut worst };
            *severest = (*severest).max(Some(text.class as u16));
        }
    }
    let named = worst.or(vague).and_then(|worst| AgentClass::ALL.into_iter().find(|class| *class as u16 == worst));
    named.unwrap_or(otherwise)
}

/// Makes the automaton, so that no request has to wait for it.
pub fn prepare() {
    agents();
}

fn agents() -> &'static Agents {
    static AGENTS: OnceLock<Agents> = OnceLock::new();
    AGENTS.get_or_init(|| {
        let rows = MAINTAINED.lines().chain(OWN.lines()).filter(|line| !line.starts_with('#'));
        let (mut patterns, mut texts) = (Vec::new(), Vec::new());
        for row in rows {
            let mut columns = row.splitn(3, '\t');
            let (class, ends, text) = (columns.next(), columns.next(), columns.next());
            let class = AgentClass::ALL.into_iter().find(|known| Some(known.as_str()) == class);
            if let (Some(class), Some(ends), Some(text)) = (class, ends, text) {
                patterns.push(text);
                let has = |mark| ends.contains(mark);
                texts.push(Text { class, at_start: has('^'), at_end: has('$'), is_vague: has('?') });
            }
        }
        let built = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(patterns);
        match built {
            Ok(automaton) => Agents { automaton, texts },
            // Not with texts this few; a test builds it.
            Err(_) => Agents { automaton: empty(), texts: Vec::new() },
        }
    })
}

#[expect(clippy::expect_used, reason = "an automaton of nothing cannot be too large")]
fn empty() -> AhoCorasick {
    AhoCorasick::new(std::iter::empty::<&str>()).expect("no texts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read() {
        let rows = MAINTAINED.lines().chain(OWN.lines()).filter(|line| !line.starts_with('#')).count();

        assert!(rows > 1_500);
        assert_eq!(agents().texts.len(), rows);
        assert_eq!(agents().automaton.patterns_len(), rows);
    }

    #[test]
    fn agents_are_what_they_say() {
        for (agent, class) in [
            ("", AgentClass::None),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", AgentClass::Browser),
            ("curl/8.5.0", AgentClass::Tool),
            ("python-requests/2.32.3", AgentClass::Tool),
            ("something/1.0", AgentClass::Tool),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36",
                AgentClass::Automation,
            ),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", AgentClass::SearchEngine),
            ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2)", AgentClass::AiCrawler),
            ("kube-probe/1.33", AgentClass::Monitoring),
            ("Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)", AgentClass::Crawler),
            ("Mozilla/5.0 (compatible; NobodyKnowsbot/1.0; +https://example.com/bot)", AgentClass::Crawler),
            ("sqlmap/1.8#stable (https://sqlmap.org)", AgentClass::Scanner),
            ("Mozilla/5.0 zgrab/0.x", AgentClass::Scanner),
        ] {
            assert_eq!(classify(Some(agent.as_bytes())), class, "{agent}");
        }
    }

    /// How many user agents of a file are taken for a robot, and how many there are.
    fn robots(file: &str) -> (u32, u32) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().fold((0, 0), |(robots, all), agent| {
            let is_robot = classify(Some(agent.as_bytes())) != AgentClass::Browser;
            (robots + u32::from(is_robot), all + 1)
        })
    }

    #[test]
    fn robots_are_told_from_browsers() {
        let (found, robots_in_all) = robots("robots.txt");
        let (wrong, browsers) = robots("browsers.txt");
        let (odd, devices) = robots("devices.txt");
        let recall = f64::from(found) / f64::from(robots_in_all);
        let precision = f64::from(found) / f64::from(found + wrong + odd);

        eprintln!("recall {recall:.3}: {found} of {robots_in_all}; precision {precision:.3}");
        eprintln!("taken for robots: {wrong} of {browsers} browsers of today, {odd} of {devices} old devices");
        assert!(recall > 0.92 && precision > 0.98, "{recall} {precision}");
        assert_eq!(wrong, 0);
    }
}
