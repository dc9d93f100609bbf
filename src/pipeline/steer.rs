//! Finds the route of a request.

use std::sync::Arc;

use http::Uri;
use http::header::LOCATION;

use crate::body::Body;
use crate::config::route::Action;
use crate::head::HeaderValue;
use crate::message::Answer;
use crate::snapshot::{Route, Snapshot};

use super::fault::Fault;

/// The route for `host` (without port, lower case) and the path of `target`.
///
/// # Errors
/// [`Fault::NoRoute`], [`Fault::UnknownHost`].
pub(super) fn steer<'a>(snapshot: &'a Snapshot, host: &str, target: &Uri) -> Result<&'a Arc<Route>, Fault> {
    let found = snapshot.routes.find(host, target.path());
    // RFC 9110 §15.5.20: the client took us for somebody whom we do not stand for.
    found.ok_or_else(|| if snapshot.routes.knows(host) { Fault::NoRoute } else { Fault::UnknownHost })
}

/// The answer of a route that forwards nothing; `None` when it forwards.
pub(super) fn fixed(route: &Route, target: &Uri) -> Option<Answer> {
    match &route.config.action {
        Action::Forward(_) => None,
        Action::Redirect { status, to } => {
            let path = target.path_and_query().map_or("/", |path| path.as_str());
            let mut answer = Answer::new(*status, Body::empty());
            // A target that is no field value cannot come from a checked configuration and a parsed path.
            if let Ok(location) = HeaderValue::try_from(to.replace("{path}", path)) {
                answer.head.headers.insert(LOCATION, location);
            }
            Some(answer)
        }
        Action::Answer { status, body, content_type } => {
            let mut answer = Answer::new(*status, Body::full(body.clone()));
            if !body.is_empty() {
                answer.head.headers.insert(http::header::CONTENT_TYPE, content_type.clone());
            }
            Some(answer)
        }
    }
}
