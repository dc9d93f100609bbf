//! The head of a response.

use http::{StatusCode, Version};

use super::Fields;

/// Status, version and fields.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The status.
    pub status: StatusCode,
    /// The version it came in.
    pub version: Version,
    /// Its fields.
    pub headers: Fields,
}

impl<T> From<http::Response<T>> for Parts {
    fn from(response: http::Response<T>) -> Self {
        let http::response::Parts { status, version, headers, .. } = response.into_parts().0;
        Self { status, version, headers: headers.into() }
    }
}

impl From<Parts> for http::Response<()> {
    fn from(parts: Parts) -> Self {
        let mut response = Self::new(());
        *response.status_mut() = parts.status;
        *response.headers_mut() = parts.headers.into();
        response
    }
}
