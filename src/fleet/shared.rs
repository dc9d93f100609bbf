//! Bans between proxies: told when they are imposed or lifted, fetched when anything has changed.
//!
//! Part of `fleet`. A proxy that was away first learns what was lifted meanwhile, then tells its own: a ban that an
//! operator ended does not come back.

use std::time::Duration;

use redis::{RedisError, Script};

use crate::limit::{Ban, Bans, Scope, Subject};

use super::link::Link;

/// Bans, or ends of them, that one call tells of: it takes Redis less than a millisecond.
pub(super) const AT_ONCE: usize = 256;

/// The bans of a fleet.
pub(super) struct Shared {
    keys: [String; 3],
    /// Keys that nobody else uses: beside the bans, and beside the counts, which a user may be kept from.
    probed: [String; 2],
    most: usize,
    version: String,
    /// Ends of bans that the fleet has not heard of yet; as many as there are bans at most.
    owed: Vec<(Subject, Scope)>,
    ban: Script,
    lift: Script,
    list: Script,
    probe: Script,
}

/// What others have imposed and lifted.
pub(super) struct Changes {
    /// New ones, with what is left of them.
    pub(super) imposed: Vec<Ban>,
    /// How many were lifted here because they were elsewhere.
    pub(super) lifted: usize,
}

impl Shared {
    pub(super) fn new(prefix: &str, most: usize) -> Self {
        // The braces keep the keys of a script in one slot of a cluster.
        let key = |name: &str| format!("{{{prefix}}}:{name}");
        Self {
            keys: [key("bans"), key("lifted"), key("version")],
            probed: [key("probe"), format!("{prefix}:probe")],
            most,
            version: String::new(),
            owed: Vec::new(),
            ban: Script::new(include_str!("ban.lua")),
            lift: Script::new(include_str!("lift.lua")),
            list: Script::new(include_str!("list.lua")),
            probe: Script::new(include_str!("probe.lua")),
        }
    }

    /// Tells of bans, each with what is left of it.
    pub(super) async fn tell(&self, link: &mut Link, bans: &[(Subject, Scope, Duration)]) -> Result<(), RedisError> {
        for some in bans.chunks(AT_ONCE) {
            let mut call = self.ban.prepare_invoke();
            call.key(&self.keys[..]).arg(self.most);
            for (subject, scope, lasting) in some {
                let millis = u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX);
                call.arg(member(subject, *scope)).arg(millis);
            }
            link.run::<i64>(&call).await?;
        }
        Ok(())
    }

    /// Notes the end of a ban, to be told with the next [`Self::tell_lifted`].
    pub(super) fn note_lifted(&mut self, subject: Subject, scope: Scope) {
        if self.owed.len() < self.most {
            self.owed.push((subject, scope));
        }
    }

    /// Tells of the ends of bans.
    pub(super) async fn tell_lifted(&mut self, link: &mut Link) -> Result<(), RedisError> {
        while !self.owed.is_empty() {
            let mut call = self.lift.prepare_invoke();
            call.key(&self.keys[..]).arg(self.most);
            let kept = self.owed.len().saturating_sub(AT_ONCE);
            self.owed.iter().skip(kept).for_each(|(subject, scope)| {
                call.arg(member(subject, *scope));
            });
            link.run::<i64>(&call).await?;
            self.owed.truncate(kept);
        }
        Ok(())
    }

    /// Writes something where bans are and where counts are, and takes it away again.
    ///
    /// # Errors
    /// What Redis refuses writes for.
    pub(super) async fn probe(&self, link: &mut Link) -> Result<(), RedisError> {
        for key in &self.probed {
            let mut call = self.probe.prepare_invoke();
            call.key(key);
            link.run::<i64>(&call).await?;
        }
        Ok(())
    }

    /// Fetches what has changed and applies it to `bans`.
    pub(super) async fn fetch(
        &mut self,
        link: &mut Link,
        bans: &Bans,
        now: fn() -> u64,
    ) -> Result<Changes, RedisError> {
        let mut call = self.list.prepare_invoke();
        call.key(&self.keys[..]).arg(&self.version);
        let (version, listed, lifted) = link.run::<(String, Vec<(String, u64)>, Vec<(String, u64)>)>(&call).await?;
        self.version = version;
        // By the time of the answer, what was lifted just now is not taken for older than the ban it ends.
        let now = now();
        let mut changes = Changes { imposed: Vec::new(), lifted: 0 };
        for (member, since) in lifted {
            let Some((subject, scope)) = parse(&member) else { continue };
            let begun = bans.get(&subject, scope, now).map(|ban| ban.since);
            // One that began after that is another one.
            if begun.is_some_and(|begun| begun < now.saturating_sub(since.saturating_mul(1_000_000))) {
                changes.lifted += usize::from(bans.lift(&subject, scope, now));
            }
        }
        for (member, left) in listed {
            let Some((subject, scope)) = parse(&member) else { continue };
            if bans.get(&subject, scope, now).is_none() {
                changes.imposed.extend(bans.ban(&subject, scope, Duration::from_millis(left), "fleet".into(), now));
            }
        }
        Ok(changes)
    }

    /// Nothing is known of what was fetched: another server may answer now.
    pub(super) fn forget(&mut self) {
        self.version.clear();
    }
}

/// `everything a 10.0.0.1`, `login f t13d...`.
fn member(subject: &Subject, scope: Scope) -> String {
    let kind = match subject {
        Subject::Address(_) => 'a',
        Subject::Fingerprint(_) => 'f',
    };
    format!("{} {kind} {subject}", scope.as_str())
}

fn parse(member: &str) -> Option<(Subject, Scope)> {
    let mut parts = member.splitn(3, ' ');
    let scope = Scope::parse(parts.next()?)?;
    let (kind, name) = (parts.next()?, parts.next()?);
    let subject = match kind {
        "a" => Subject::Address(name.parse().ok()?),
        "f" if name.len() <= 64 => Subject::Fingerprint(name.into()),
        _ => return None,
    };
    Some((subject, scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_banned_survives_the_way_through_redis() {
        for subject in [
            Subject::Address("10.0.0.1".parse().unwrap()),
            Subject::Address("2001:db8::".parse().unwrap()),
            Subject::Fingerprint("t13d1516h2_8daaf6152771_02713d6af862".into()),
        ] {
            for scope in [Scope::Everything, Scope::Login] {
                assert_eq!(parse(&member(&subject, scope)), Some((subject.clone(), scope)));
            }
        }
        assert_eq!(parse("everything a nowhere"), None);
        assert_eq!(parse("nothing a 10.0.0.1"), None);
        assert_eq!(parse(""), None);
    }
}
