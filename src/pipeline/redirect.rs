//! Plain listeners that send clients to HTTPS.

use http::StatusCode;
use http::header::{CACHE_CONTROL, HOST, LOCATION};

use crate::body::Body;
use crate::config::Listener;
use crate::head::{HeaderValue, request};
use crate::message::Answer;

/// 308 keeps method and body (RFC 9110 §15.4.9). `None` where the path is spared, or the host is unknown: the handler
/// says then what is wrong with it.
pub(super) fn redirect(head: &request::Parts, listener: &Listener) -> Option<Answer> {
    let to = listener.redirect_to_https.as_ref()?;
    let path = head.uri.path();
    let spared = to.except.iter().any(|prefix| {
        path.strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/'))
    });
    if spared {
        return None;
    }
    let host = head.headers.get(HOST)?.to_str().ok()?;
    let name = match host.strip_prefix('[') {
        // An IPv6 address keeps its brackets.
        Some(rest) => host.get(..rest.find(']')? + 2)?,
        None => host.split(':').next()?,
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte)) {
        return None;
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let location = match to.port {
        443 => format!("https://{name}{target}"),
        port => format!("https://{name}:{port}{target}"),
    };
    let mut answer = Answer::new(StatusCode::PERMANENT_REDIRECT, Body::empty());
    answer.head.headers.insert(LOCATION, HeaderValue::try_from(location).ok()?);
    answer.head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::listener::RedirectToHttps;

    fn asked(target: &str, host: &'static str) -> Option<String> {
        let mut listener = Listener::internal("plain", ([127, 0, 0, 1], 0).into());
        listener.redirect_to_https = Some(RedirectToHttps { port: 8443, except: vec!["/health".to_owned()] });
        let head = request::Parts::from(http::Request::get(target).header(HOST, host).body(()).unwrap());
        let answer = redirect(&head, &listener)?;
        assert_eq!(answer.head.status, StatusCode::PERMANENT_REDIRECT);
        Some(answer.head.headers[LOCATION].to_str().unwrap().to_owned())
    }

    #[test]
    fn every_path_but_the_spared_ones_goes_to_https() {
        assert_eq!(asked("/login/?next=%2F", "a.test:80").unwrap(), "https://a.test:8443/login/?next=%2F");
        assert_eq!(asked("/", "[::1]:80").unwrap(), "https://[::1]:8443/");
        assert_eq!(asked("/healthy", "a.test").unwrap(), "https://a.test:8443/healthy");
        assert_eq!(asked("/health", "a.test"), None);
        assert_eq!(asked("/health/x", "a.test"), None);
    }

    #[test]
    fn odd_host_is_left_to_those_who_judge_hosts() {
        assert_eq!(asked("/", "a\"b"), None);
        assert_eq!(asked("/", "[::1"), None);
    }
}
