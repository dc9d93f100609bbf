//! The demo's pages and assets, all in the binary.
//!
//! Pages are filled at each request, with a nonce of their own; the style sheet is named by its content's hash and may
//! be kept for a year, as Superset's assets are.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use http::{StatusCode, header};

use super::superset::{text, typed};
use crate::body::Body;
use crate::head::{Fields, HeaderValue};
use crate::message::Answer;

/// A page of the demo.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Page {
    Login,
    Welcome,
    Dashboard,
}

/// Pages and assets.
#[derive(Debug)]
pub(super) struct Pages {
    assets: Vec<Asset>,
}

#[derive(Debug)]
struct Asset {
    /// The word in a page that stands for the path.
    word: &'static str,
    path: String,
    kind: &'static str,
    tag: HeaderValue,
    content: Bytes,
}

impl Pages {
    pub(super) fn new() -> Self {
        let style = Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css"));
        let icon = Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg"));
        Self { assets: vec![style, icon] }
    }

    /// The page with each `{{word}}` replaced by its fact.
    pub(super) fn fill(&self, page: Page, facts: &[(&str, &str)]) -> String {
        let mut text = match page {
            Page::Login => include_str!("assets/login.html"),
            Page::Welcome => include_str!("assets/welcome.html"),
            Page::Dashboard => include_str!("assets/dashboard.html"),
        }
        .to_owned();
        for asset in &self.assets {
            text = text.replace(&format!("{{{{{}}}}}", asset.word), &asset.path);
        }
        for (word, fact) in facts {
            text = text.replace(&format!("{{{{{word}}}}}"), fact);
        }
        text
    }

    /// The asset at `path`, or 304 when the client has it (RFC 9110 §13.1.2), or 404.
    pub(super) fn asset(&self, path: &str, fields: &Fields) -> Answer {
        let Some(asset) = self.assets.iter().find(|asset| asset.path == path) else {
            return text(StatusCode::NOT_FOUND, "Not Found\n");
        };
        let known = fields.get(header::IF_NONE_MATCH).is_some_and(|tag| *tag == asset.tag);
        let mut answer = if known {
            Answer::new(StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            typed(StatusCode::OK, asset.kind, Body::full(asset.content.clone()))
        };
        let age = HeaderValue::from_static("public, max-age=31536000, immutable");
        answer.head.headers.insert(header::CACHE_CONTROL, age);
        answer.head.headers.insert(header::ETAG, asset.tag.clone());
        answer
    }
}

impl Asset {
    fn new(word: &'static str, extension: &str, kind: &'static str, content: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let hash = format!("{:016x}", hasher.finish());
        Self {
            word,
            path: format!("/static/assets/{word}.{hash}.{extension}"),
            kind,
            // Hexadecimal digits in quotes are always a field value.
            tag: HeaderValue::try_from(format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"demo\"")),
            content: Bytes::from_static(content.as_bytes()),
        }
    }
}
