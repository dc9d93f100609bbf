//! What is admitted, and how much of a body.

use bytes::Bytes;

use super::*;
use crate::config::Config;

fn route(keys: &str) -> Arc<config::Route> {
    let text = format!(
        "[[listeners]]\naddress = \"127.0.0.1:1\"\n[pools.p]\nendpoints = [\"127.0.0.1:1\"]\n[[routes]]\npool = \"p\"\n{keys}\n"
    );
    let loaded = Config::parse(&text, "a.toml".as_ref()).unwrap_or_else(|findings| panic!("{findings}"));
    Arc::clone(loaded.config.routes.iter().find(|route| route.name.as_str() != "version").unwrap())
}

fn head(method: &str, target: &str) -> request::Parts {
    http::Request::builder().method(method).uri(target).header("host", "bi.test").body(()).unwrap().into()
}

#[test]
fn tunnels_to_anywhere_and_echoes_are_refused() {
    let methods = [Method::GET];
    assert_eq!(admit(&head("TRACE", "/"), None, &methods).unwrap_err(), Fault::Method);
    assert_eq!(admit(&head("CONNECT", "a:1"), None, &methods).unwrap_err(), Fault::Method);
    assert!(admit(&head("CONNECT", "http://bi.test/ws"), Some(Upgrade::ExtendedConnect), &methods).is_ok());
    assert_eq!(admit(&head("POST", "/"), None, &methods).unwrap_err(), Fault::Method);
    assert_eq!(admit(&head("GET", "/"), None, &methods).unwrap().name(), "bi.test");
    let mut two = head("GET", "/");
    two.headers.append("host", "evil.test".parse().unwrap());
    assert_eq!(admit(&two, None, &methods).unwrap_err(), Fault::BadHost);
}

#[test]
fn only_safe_methods_and_listed_posts_change_nothing() {
    let route = route("read_only_posts = [\"/api/v1/chart/data\"]");
    for (method, target, expected) in [
        ("GET", "/x", true),
        ("HEAD", "/x", true),
        ("OPTIONS", "/x", true),
        ("PUT", "/api/v1/chart/data", false),
        ("DELETE", "/x", false),
        ("POST", "/x", false),
        ("POST", "/api/v1/chart/data", true),
        ("POST", "/api/v1/chart/data/?force=true", true),
        ("POST", "/api/v1/chart/data/1", false),
        ("POST", "/api/v1/chart/datafile", false),
        ("PROPFIND", "/x", false),
    ] {
        assert_eq!(is_read_only(&head(method, target), &route), expected, "{method} {target}");
    }
}

struct Pieces(Vec<&'static [u8]>);

impl Source for Pieces {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        Poll::Ready((!self.0.is_empty()).then(|| Ok(Frame::Data(Bytes::from_static(self.0.remove(0))))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }
}

#[tokio::test]
async fn body_is_bounded_by_what_it_says_and_by_what_comes() {
    let route = route("max_body = \"1KiB\"");
    let (mut story, _told) = super::super::record::tests::story();

    let announced = meter(Body::full(vec![0; 1025]), &route, &mut story);
    assert_eq!(announced.unwrap_err(), Fault::BodyTooLarge);

    let mut most = meter(Body::stream(Pieces(vec![&[0; 512], &[0; 512]])), &route, &mut story).unwrap();
    assert!(matches!(most.frame().await, Some(Ok(_))) && matches!(most.frame().await, Some(Ok(_))));
    assert!(most.frame().await.is_none());

    let (mut story, _told) = super::super::record::tests::story();
    let mut more = meter(Body::stream(Pieces(vec![&[0; 512], &[0; 513]])), &route, &mut story).unwrap();
    assert!(matches!(more.frame().await, Some(Ok(_))));
    assert!(matches!(more.frame().await, Some(Err(BodyError::TooLarge(1024)))));
    assert!(more.frame().await.is_none(), "nothing follows an error");
}

#[tokio::test]
async fn read_without_type_and_length_passes_and_its_content_does_not() {
    let route = route("content_types = [\"application/json\"]");
    let pieces = |pieces: &[&'static [u8]]| Body::stream(Pieces(pieces.to_vec()));
    let refused = |head: &request::Parts, body| typed(head, body, &route).unwrap_err();

    let mut none = typed(&head("GET", "/"), pieces(&[]), &route).unwrap();
    assert!(none.frame().await.is_none());
    let mut some = typed(&head("GET", "/"), pieces(&[b"x"]), &route).unwrap();
    let error = some.frame().await.unwrap().unwrap_err();
    assert_eq!(Fault::from(&error), Fault::ContentType);

    assert_eq!(refused(&head("POST", "/"), pieces(&[])), Fault::ContentType);
    assert_eq!(refused(&head("GET", "/"), Body::full("x")), Fault::ContentType, "its length is announced");
    let mut plain = head("GET", "/");
    plain.headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
    assert_eq!(refused(&plain, pieces(&[])), Fault::ContentType);
}
