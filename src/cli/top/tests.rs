//! The screen of `top` by its cells, and its keys.

use super::*;

fn view() -> View {
    let status = json!({
        "version": "0.1.0", "generation": 4, "phase": "running", "uptime_seconds": 7_260, "bans": 2,
        "pools": [{ "name": "superset", "queue_length": 3, "endpoints": [
            { "name": "10.0.0.1:8088", "in_flight": 7, "tunnels": 1 },
            { "name": "10.0.0.2:8088", "in_flight": 9, "tunnels": 0 },
        ] }],
    });
    let overview = json!({
        "at": 100_000, "per_second": 120.4, "errors_per_second": 1.5, "bytes_per_second": 2_000.0, "in_flight": 16,
        "queued": 3, "tunnels": 1, "connections": 40,
        "latency": { "p50_ms": 12.0, "p95_ms": 250.0, "p99_ms": 1_300.0 },
        "errors": [{ "cause": "queue_late", "last_minute": 2, "last_ten_minutes": 5, "total": 9 }],
        "pools": [{ "name": "superset", "per_second": 120.4, "errors_per_second": 1.5,
            "latency": { "p50_ms": 12.0, "p95_ms": null, "p99_ms": null },
            "endpoints": [
                { "name": "10.0.0.1:8088", "mark": "up", "reason": "fine", "per_second": 20.0, "errors_per_second": 0.0 },
                { "name": "10.0.0.2:8088", "mark": "down", "reason": "refused", "per_second": 100.4,
                  "errors_per_second": 1.5 },
            ] }],
        "events": [{ "at": 58_000, "weight": "bad", "what": "superset/10.0.0.2:8088", "text": "down: refused" }],
    });
    View { scene: Scene::read(&status.to_string(), &overview.to_string()).unwrap(), ..View::default() }
}

fn press(view: &mut View, key: char) -> Wish {
    view.press(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE))
}

#[test]
fn picture_shows_pools_endpoints_causes_and_events() {
    let shown = picture(&view());

    let line = |with: &str| shown.lines().find(|line| line.contains(with)).unwrap_or_else(|| panic!("{with}\n{shown}"));
    assert!(line("Sluicegate 0.1.0").contains("running  generation 4  up 2 h 1 min"), "{shown}");
    assert!(line("5xx").contains("120 /s  5xx 1.5 /s  50 % 12 ms  95 % 250 ms  99 % 1.3 s"), "{shown}");
    assert!(line("  10.0.0.2:8088 ").contains("down") && line("  10.0.0.2:8088 ").contains("refused"), "{shown}");
    assert!(!line("  10.0.0.1:8088 ").contains("fine"), "{shown}");
    assert!(line("3 queued").starts_with("superset"), "{shown}");
    assert!(line("queue late").contains('9'), "{shown}");
    assert!(line("42 s ago").contains("superset/10.0.0.2:8088 down: refused"), "{shown}");
}

#[test]
fn values_stand_below_their_headings() {
    let shown = picture(&view());
    let line = |with: &str| shown.lines().find(|line| line.contains(with)).unwrap_or_else(|| panic!("{with}\n{shown}"));
    let header = line("POOL / ENDPOINT");
    let below = |heading: &str, with: &str| {
        let column = header.split(heading).next().unwrap().chars().count();
        line(with).chars().skip(column).take_while(|letter| *letter != ' ').collect::<String>()
    };

    let pool = ["/S", "5XX/S", "FLIGHT", "TUNNELS", "50 %", "WHY"].map(|heading| below(heading, "3 queued"));
    assert_eq!(pool, ["120", "1.5", "16", "1", "12", "3"], "{shown}");
    let endpoint =
        ["STATE", "/S", "5XX/S", "FLIGHT", "TUNNELS", "WHY"].map(|heading| below(heading, "  10.0.0.2:8088 "));
    assert_eq!(endpoint, ["down", "100", "1.5", "9", "0", "refused"], "{shown}");
}

#[test]
fn endpoints_are_sorted_by_what_the_operator_asks_for() {
    let mut view = view();
    let first = |view: &View| match view.lines()[1] {
        Of::Endpoint(_, endpoint) => endpoint.name.clone(),
        Of::Pool(_) => panic!("a pool"),
    };

    assert_eq!(first(&view), "10.0.0.1:8088");
    press(&mut view, 's');

    assert_eq!(first(&view), "10.0.0.2:8088");
    let area = Rect::new(0, 0, 120, 30);
    let mut cells = Buffer::empty(area);
    screen::draw(&view, area, &mut cells);
    assert!(text(&cells).contains("/S▾"));
}

#[test]
fn drain_is_asked_for_an_endpoint_and_done_after_a_yes() {
    let mut view = view();

    press(&mut view, 'd');
    assert!(view.asking.is_none() && view.told.is_some());
    for key in ['j', 'j', 'd', 'n'] {
        assert!(matches!(press(&mut view, key), Wish::Nothing));
    }
    assert!(view.asking.is_none());
    press(&mut view, 'd');
    let Wish::Do(ask) = press(&mut view, 'y') else { panic!("nothing to do") };

    assert_eq!(ask.question(), "drain superset/10.0.0.1:8088?");
    assert!(matches!(press(&mut view, 'q'), Wish::End));
}
