//! What a reload carries from one generation to the next.

use super::*;
use crate::lexicon::Standing;
use crate::upstream::pool::tests::wish;

fn config(rest: &str) -> Config {
    let text = format!("[[listeners]]\naddress = \"127.0.0.1:1\"\n{rest}\n");
    Config::parse(&text, Path::new("/nowhere/a.toml")).unwrap_or_else(|findings| panic!("{findings}")).config
}

fn first(metrics: &Metrics) -> Snapshot {
    let two = "[pools.a]\nendpoints = [\"10.0.0.1:1\", \"10.0.0.2:1\"]\nmax_in_flight = 3";
    Snapshot::build(config(two), None, metrics).unwrap()
}

fn endpoint(snapshot: &Snapshot, host: &str) -> Arc<Endpoint> {
    let roster = snapshot.pools[0].upstream.roster();
    Arc::clone(roster.endpoints().iter().find(|endpoint| endpoint.host == host).unwrap())
}

#[test]
fn page_keeps_what_is_no_placeholder() {
    let page = Pages::fill("a {code} {b} {{status} {", &[("code", "X"), ("status", "5")]);

    assert_eq!(page, "a X {b} {5 {");
}

#[test]
fn values_on_a_page_are_not_filled_in_again() {
    let page = Pages::fill("{code}{status}", &[("code", "{status}"), ("status", "{code}")]);

    assert_eq!(page, "{status}{code}");
}

#[tokio::test]
async fn reload_carries_claims_health_and_numbers_on() {
    let metrics = Metrics::new(1);
    let old = first(&metrics);
    for known in old.pools[0].upstream.roster().endpoints() {
        known.vitals.set_standing(Standing::Up, "well");
    }
    let tried = [endpoint(&old, "10.0.0.1").id];
    let lease = old.pools[0].upstream.lease(wish(&tried)).await.unwrap();

    let wanted = "[pools.a]\nendpoints = [\"10.0.0.2:1\", \"10.0.0.3:1\"]\nmax_in_flight = 1";
    let new = Snapshot::build(config(wanted), Some(&old), &metrics).unwrap();

    assert_eq!(new.generation.0, old.generation.0 + 1);
    let kept = endpoint(&new, "10.0.0.2");
    assert_eq!((kept.id, kept.vitals.in_flight()), (lease.endpoint().id, 1));
    assert_eq!((kept.vitals.standing(), &*kept.vitals.reason()), (Standing::Up, "well"));
    assert_eq!(endpoint(&new, "10.0.0.3").vitals.standing(), Standing::Unknown);
    drop(lease);
    assert_eq!(kept.vitals.in_flight(), 0);
}

#[tokio::test]
async fn exchange_of_the_old_generation_counts_towards_the_cap_of_the_new_one() {
    let metrics = Metrics::new(1);
    let text = "[pools.a]\nendpoints = [\"10.0.0.1:1\"]\nhealth = false\nqueue = { length = 0, timeout = \"1s\" }\n";
    let old = Snapshot::build(config(text), None, &metrics).unwrap();
    let lease = old.pools[0].upstream.lease(wish(&[])).await.unwrap();

    let new = Snapshot::build(config(&format!("{text}max_in_flight = 1")), Some(&old), &metrics).unwrap();

    assert!(new.pools[0].upstream.lease(wish(&[])).await.is_err());
    drop(lease);
    assert!(new.pools[0].upstream.lease(wish(&[])).await.is_ok());
}

#[test]
fn failed_build_tells_everything_and_leaves_no_trace() {
    let metrics = Metrics::new(1);
    let old = first(&metrics);
    let roster = old.pools[0].upstream.roster();

    let mut broken = config("[pools.a]\nendpoints = [\"10.0.0.9:1\"]");
    broken.fault_pages.html = Some("/nowhere/a.html".into());
    broken.fault_pages.json = Some("/nowhere/a.json".into());
    let errors = Snapshot::build(broken, Some(&old), &metrics).unwrap_err();

    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(Arc::ptr_eq(&roster, &old.pools[0].upstream.roster()), "the roster moved");
    assert_eq!(old.pools[0].upstream.config.max_in_flight, 3);
}

#[test]
fn pool_that_comes_back_begins_anew() {
    let metrics = Metrics::new(1);
    let old = first(&metrics);
    let id = endpoint(&old, "10.0.0.1").id;
    let without = Snapshot::build(config("[pools.b]\nendpoints = [\"10.0.0.1:1\"]"), Some(&old), &metrics).unwrap();

    let again = config("[pools.a]\nendpoints = [\"10.0.0.1:1\"]");
    let again = Snapshot::build(again, Some(&without), &metrics).unwrap();

    assert_ne!(endpoint(&again, "10.0.0.1").id, id);
    assert!(again.pool(&PoolName::new("b")).is_none());
}
