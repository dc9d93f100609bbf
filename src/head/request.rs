//! The head of a request.

use http::{Method, Uri, Version};

use super::Fields;

/// Method, target, version and fields.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The version it came in.
    pub version: Version,
    /// Its fields.
    pub headers: Fields,
}

impl<T> From<http::Request<T>> for Parts {
    fn from(request: http::Request<T>) -> Self {
        request.into_parts().0.into()
    }
}

impl From<http::request::Parts> for Parts {
    fn from(parts: http::request::Parts) -> Self {
        let http::request::Parts { method, uri, version, headers, .. } = parts;
        Self { method, uri, version, headers: headers.into() }
    }
}
