//! Which addresses have proven that they are a search engine's, by forward-confirmed reverse DNS.
//!
//! Part of `waf`. In: addresses of clients that say so. Out: what is known of them, and whom to ask the name servers
//! about. Nobody waits for an answer: until there is one, for a few seconds at most, an address has the benefit of the
//! doubt. The book is bounded, and so are those who wait to be asked about; whoever finds no room is taken for unproven.
//! Deliberately absent: the asking, which is `control::crawlers`'.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Addresses that wait to be asked about.
const LONGEST_LINE: usize = 256;

/// How long an address has the benefit of the doubt, in nanoseconds: name servers that do not answer confirm nobody.
const DOUBT: u64 = 5_000_000_000;

/// How long an address that nobody could say anything about stays unproven before it is asked about again.
const UNANSWERED: u64 = 60_000_000_000;

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Proof {
    /// Its name is a search engine's, and that name has this address.
    Proven,
    /// Nothing as yet: somebody is asking.
    Pending,
    /// It is not.
    #[default]
    Unproven,
}

/// What is known of addresses. Cloning shares. Asked only about clients that call themselves a search engine.
#[derive(Clone, Debug)]
pub struct Proofs(Arc<Book>);

#[derive(Debug)]
struct Book {
    /// Addresses that are known at once.
    most: usize,
    pages: Mutex<Pages>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct Pages {
    known: HashMap<IpAddr, (Proof, u64)>,
    line: VecDeque<IpAddr>,
}

impl Proofs {
    /// Nothing is known; of `most` addresses something can be.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Book { most, pages: Mutex::default(), asked: Notify::new() }))
    }

    /// What is known of `address` at `now`; whoever is new gets into the line of those to be asked about.
    pub fn of(&self, address: IpAddr, now: u64) -> Proof {
        let mut pages = self.lock();
        match pages.known.get(&address) {
            Some((proof, until)) if *until > now => return *proof,
            // Nobody has answered in time; an answer may still come.
            Some((Proof::Pending, until)) if until.saturating_add(UNANSWERED) > now => return Proof::Unproven,
            _ => {}
        }
        if pages.line.len() >= LONGEST_LINE {
            return Proof::Unproven;
        }
        pages.note(address, Proof::Pending, now.saturating_add(DOUBT), now, self.0.most);
        pages.line.push_back(address);
        drop(pages);
        self.0.asked.notify_one();
        Proof::Pending
    }

    /// The next address to ask about.
    pub async fn next(&self) -> IpAddr {
        loop {
            let next = self.lock().line.pop_front();
            match next {
                Some(address) => return address,
                None => self.0.asked.notified().await,
            }
        }
    }

    /// What the name servers say of `address` is good until then.
    pub fn learn(&self, address: IpAddr, proven: bool, until: u64, now: u64) {
        let proof = if proven { Proof::Proven } else { Proof::Unproven };
        self.lock().note(address, proof, until, now, self.0.most);
    }

    /// Addresses that are known, and how many of them are proven.
    pub fn counts(&self, now: u64) -> (usize, usize) {
        let pages = self.lock();
        let proven = pages.known.values().filter(|(proof, until)| *proof == Proof::Proven && *until > now);
        (pages.known.len(), proven.count())
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn note(&mut self, address: IpAddr, proof: Proof, until: u64, now: u64, most: usize) {
        if self.known.len() >= most && !self.known.contains_key(&address) {
            // Whatever is over, else all that is not proven: the proven are few, and asked about again if need be.
            self.known.retain(|_, (_, until)| *until > now);
            if self.known.len() >= most {
                self.known.retain(|_, (proof, _)| *proof == Proof::Proven);
            }
            if self.known.len() >= most {
                self.known.clear();
            }
        }
        self.known.insert(address, (proof, until));
    }
}

/// Whether `name` is one of `domains`, or below one of them. Names without the dot at their end, in any case.
pub fn is_within(name: &str, domains: &[String]) -> bool {
    let name = name.as_bytes();
    domains.iter().any(|domain| {
        let Some(rest) = name.len().checked_sub(domain.len()) else { return false };
        let (before, end) = name.split_at(rest);
        end.eq_ignore_ascii_case(domain.as_bytes()) && before.last().is_none_or(|last| *last == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 10_000;
    const SECOND: u64 = 1_000_000_000;

    fn at(host: u32) -> IpAddr {
        IpAddr::from(host.to_be_bytes())
    }

    #[tokio::test]
    async fn address_has_the_benefit_of_the_doubt_until_there_is_an_answer() {
        let proofs = Proofs::new(MOST);

        assert_eq!(proofs.of(at(1), 0), Proof::Pending);
        assert_eq!((proofs.of(at(1), SECOND), proofs.next().await), (Proof::Pending, at(1)));
        proofs.learn(at(1), true, 100 * SECOND, SECOND);
        assert_eq!(proofs.of(at(1), 99 * SECOND), Proof::Proven);
        assert_eq!(proofs.of(at(1), 100 * SECOND), Proof::Pending, "asked about once more");

        proofs.learn(at(1), false, 200 * SECOND, 101 * SECOND);
        assert_eq!(proofs.of(at(1), 102 * SECOND), Proof::Unproven);
        assert_eq!(proofs.counts(102 * SECOND), (1, 0));
    }

    #[test]
    fn silence_of_the_name_servers_proves_nothing() {
        let proofs = Proofs::new(MOST);
        proofs.of(at(1), 0);

        assert_eq!(proofs.of(at(1), 6 * SECOND), Proof::Unproven);
        assert_eq!(proofs.of(at(1), 64 * SECOND), Proof::Unproven);
        assert_eq!(proofs.of(at(1), 66 * SECOND), Proof::Pending, "tried again after a minute");
    }

    #[test]
    fn flood_of_addresses_gets_no_benefit_and_no_memory() {
        let proofs = Proofs::new(MOST);

        let pending = (0..50_000).filter(|host| proofs.of(at(*host), 0) == Proof::Pending).count();
        assert_eq!(pending, LONGEST_LINE);
        for host in 0..50_000 {
            proofs.learn(at(host), host % 1_000 == 0, 100 * SECOND, 0);
        }

        assert!(proofs.counts(0).0 <= MOST);
        assert_eq!(proofs.of(at(0), SECOND), Proof::Proven, "the proven stay");
    }

    #[test]
    fn name_is_within_a_domain_on_the_border_of_a_label() {
        let domains = ["googlebot.com".to_owned()];

        assert!(is_within("crawl-66-249-66-1.GoogleBot.com", &domains) && is_within("googlebot.com", &domains));
        assert!(!is_within("crawl.evilgooglebot.com", &domains) && !is_within("googlebot.com.evil.example", &domains));
        assert!(!is_within("com", &domains) && !is_within("", &domains));
    }
}
