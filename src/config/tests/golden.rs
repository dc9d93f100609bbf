#[test]
fn look() {
    let text = r#"
[[listeners]]
address = ["0.0.0.0:443", "1.2.3.4"]
certificat = "x"
hsts = true
[listeners.limits]
uri_bytes = "1MiB"

[pools.superset]
endpoints = ["a:8088", "http://b:8088", { address = "c", wieght = 3 }]
strategy = "round_robin"
health = { interval = 5, path = "health", late_after = "5s", timeout = "3s", kind = "htpp" }
retry.attempts = 9
[pools.superset.timeouts]
idle = "2s"

[process]
fleet_secret = "hunter2"
drain_timeout = "1m30s"
workers = "two"

[clients]
trusted_proxies = ["0.0.0.0/0", "10.0.0/8"]

[routes]
x = 1
"#;
    let e = super::parse(text).unwrap_err();
    println!("{}\n\n{e}", e.render(false));
    let e = super::spoilt(
        "[[routes]]\npool='supers'\nread_only_posts=['/api']\n[[routes]]\npool='superset'\nstrip_prefix='/x'\nrequest_headers={set={host='a'},remove=['x-forwarded-for','te']}\n[pools.x]\nendpoints=[]\n",
    );
    println!("{}\n\n{e}", e.render(false));
    let e = super::spoilt("[a\nb = \nfleet_secret = hunter2\n");
    println!("{}\n\n{e}", e.render(false));
    println!("{}", super::super::reference());
    println!("{:?}", super::super::explain("first_byte"));
    println!("{:?}", super::super::explain("interva"));
    println!("{}", serde_json::to_string(&super::super::schema()).unwrap());
    for f in ["minimal", "superset"] {
        let l = super::Config::load(std::path::Path::new(&format!("config/{f}.toml")))
            .unwrap_or_else(|f| panic!("{}", f.render(false)));
        println!(
            "{}\n{:#?}",
            l.warnings,
            l.config
                .routes
                .iter()
                .map(|r| (r.name.clone(), r.max_body))
                .collect::<Vec<_>>()
        );
    }
}
