//! Consecutive outcomes and what they make of a standing. Pure: outcomes in, flips out.
//!
//! Every change wants a streak, so that one odd answer neither takes an endpoint out nor fills the log: `rise` outcomes
//! that are not bad bring it in, `fall` bad ones take it out, `rise` of the same kind tell late from up.

use crate::balance::Standing;
use crate::config::pool::Health;

/// What one check says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// Well, in time.
    Good,
    /// Alive, but late or degraded.
    Late,
    /// Not alive.
    Bad,
}

/// A change of standing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Flip {
    pub from: Standing,
    pub to: Standing,
}

/// The outcomes since the last one of another kind.
#[derive(Debug)]
pub(super) struct Streak {
    standing: Standing,
    kind: Option<Outcome>,
    /// Outcomes of that kind in a row.
    length: u32,
    /// Outcomes in a row that are not bad.
    alive: u32,
}

impl Streak {
    /// Begins at what is known already.
    pub(super) const fn new(standing: Standing) -> Self {
        Self { standing, kind: None, length: 0, alive: 0 }
    }

    /// Takes an outcome in; says when the standing changes.
    pub(super) fn on(&mut self, outcome: Outcome, health: &Health) -> Option<Flip> {
        self.length = if self.kind == Some(outcome) { self.length.saturating_add(1) } else { 1 };
        self.kind = Some(outcome);
        self.alive = if outcome == Outcome::Bad { 0 } else { self.alive.saturating_add(1) };
        let from = self.standing;
        let is_in = matches!(from, Standing::Up | Standing::Late);
        let streak = if is_in { self.length } else { self.alive };
        self.standing = match outcome {
            Outcome::Bad if self.length >= health.fall => Standing::Down,
            Outcome::Good if streak >= health.rise => Standing::Up,
            Outcome::Late if streak >= health.rise => Standing::Late,
            Outcome::Good | Outcome::Late | Outcome::Bad => from,
        };
        (self.standing != from).then_some(Flip { from, to: self.standing })
    }

    /// Whether the last outcome agrees with the standing; if not, the next check should come soon.
    pub(super) fn is_settled(&self) -> bool {
        matches!(
            (self.standing, self.kind),
            (Standing::Up, Some(Outcome::Good))
                | (Standing::Late, Some(Outcome::Late))
                | (Standing::Down, Some(Outcome::Bad))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Bad, Good, Late};
    use super::*;
    use crate::config::Config;

    fn flips(outcomes: &[Outcome]) -> Vec<Standing> {
        let text = "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.a]\nendpoints = [\"a:1\"]\nhealth = { rise = 2, fall = 3 }\n";
        let config = Config::parse(text, "a.toml".as_ref()).unwrap().config;
        let health = config.pools[0].health.as_ref().unwrap();
        let mut streak = Streak::new(Standing::Unknown);
        outcomes.iter().filter_map(|outcome| streak.on(*outcome, health)).map(|flip| flip.to).collect()
    }

    #[test]
    fn rise_and_fall_want_consecutive_outcomes() {
        assert_eq!(flips(&[Good, Bad, Good]), []);
        assert_eq!(flips(&[Good, Good, Bad, Bad, Good, Bad, Bad]), [Standing::Up]);
        assert_eq!(flips(&[Good, Good, Bad, Bad, Bad, Good, Good]), [Standing::Up, Standing::Down, Standing::Up]);
        assert_eq!(flips(&[Bad, Bad, Bad]), [Standing::Down]);
    }

    #[test]
    fn lateness_keeps_an_endpoint_in_and_brings_it_in() {
        assert_eq!(flips(&[Good, Late]), [Standing::Late]);
        assert_eq!(
            flips(&[Good, Good, Late, Good, Late, Late, Good, Good]),
            [Standing::Up, Standing::Late, Standing::Up]
        );
        assert_eq!(flips(&[Good, Good, Bad, Bad, Late, Bad, Bad]), [Standing::Up]);
    }
}
