//! Requests find their route by host, then by path; some are answered on the spot.

use crate::rig::{Rig, Upstream};

async fn asked(rig: &Rig, host: &str, path: &str) -> crate::rig::Response {
    let mut client = rig.client().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    client.response().await
}

#[tokio::test]
async fn longest_host_then_longest_path_counts() {
    let (app, other) = (Upstream::named("app").await, Upstream::named("other").await);
    let rest = format!(
        "[pools.other]\nhealth = false\nendpoints = [\"{}\"]\n\
         [[routes]]\npool = \"app\"\n\
         [[routes]]\npath = \"/ws\"\npool = \"other\"\n\
         [[routes]]\nhost = \"one.example.com\"\npool = \"other\"\n\
         [[routes]]\nhost = \"*.example.org\"\npool = \"other\"\n\
         [[routes]]\nhost = \"app.example.org\"\npool = \"app\"\n\
         [[routes]]\npath = \"/fixed\"\nexact = true\nanswer = {{ status = 418, body = \"tea\" }}\n\
         [[routes]]\npath = \"/old\"\nredirect = \"https://new.example.com{{path}}\"\n",
        other.address
    );
    let rig = Rig::setup().endpoint(&app).rest(&rest).start().await;

    for (host, path, body) in [
        ("a", "/", "app"),
        ("a", "/ws", "other"),
        ("a", "/ws/x?y", "other"),
        ("a", "/wsx", "app"),
        ("one.example.com", "/", "other"),
        ("ONE.example.com:8443", "/", "other"),
        ("one.example.com.", "/", "other"),
        ("x.example.org", "/", "other"),
        ("app.example.org", "/", "app"),
        ("example.org", "/", "app"),
        ("a", "/fixed", "tea"),
        ("a", "/fixed/not", "app"),
    ] {
        assert_eq!(asked(&rig, host, path).await.text(), body, "{host} {path}");
    }
    let redirect = asked(&rig, "a", "/old/place?q=1").await;
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.get("location").as_deref(), Some("https://new.example.com/old/place?q=1"));
}

#[tokio::test]
async fn superset_tells_nobody_its_version() {
    let upstream = Upstream::named("a").await;
    let rig = Rig::setup().endpoint(&upstream).start().await;

    for path in ["/version", "/version/", "/version?x"] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
    assert_eq!(rig.h2().await.get("/version").await.status, 404);

    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn host_without_a_route_is_answered_421() {
    let upstream = Upstream::named("a").await;
    let rest = "[[routes]]\nhost = \"only.example.com\"\npool = \"app\"";
    let rig = Rig::setup().endpoint(&upstream).rest(rest).start().await;

    assert_eq!(asked(&rig, "other.example.com", "/none").await.status, 421);
    assert_eq!(rig.record("/none").await["fault"], "unknown_host");
}

#[tokio::test]
async fn path_and_query_pass_byte_by_byte() {
    let upstream = Upstream::answering(|request| crate::rig::upstream::named(request.target())).await;
    // The first of them is spelt as the shield does not like it.
    let rig = Rig::setup().endpoint(&upstream).rest("[shield]\nprofile = \"off\"").start().await;

    for target in [
        "/a%2Fb/../c//d/./e",
        "/api/v1/chart/?q=(filters:!((col:slice_name,opr:eq,value:a)))",
        "/%E4%BD%A0%20x?a=b%26c&&=",
        "/?",
        "/a;b=c",
    ] {
        assert_eq!(asked(&rig, "a", target).await.text(), target);
    }
}

#[tokio::test]
async fn prefix_is_kept_unless_told_otherwise() {
    let upstream = Upstream::answering(|request| crate::rig::upstream::named(request.target())).await;
    let rest = format!(
        "[pools.other]\nhealth = false\nendpoints = [\"{}\"]\n[[routes]]\npool = \"app\"\n\
         [[routes]]\npath = \"/bi\"\nstrip_prefix = \"/bi\"\npool = \"other\"",
        upstream.address
    );
    let rig = Rig::setup().endpoint(&upstream).rest(&rest).start().await;

    assert_eq!(asked(&rig, "a", "/superset/x").await.text(), "/superset/x");
    assert_eq!(asked(&rig, "a", "/bi/x?y").await.text(), "/x?y");
    assert_eq!(asked(&rig, "a", "/bi").await.text(), "/");
    assert_eq!(upstream.requests()[1].head.get("x-forwarded-prefix").as_deref(), Some("/bi"));
}
