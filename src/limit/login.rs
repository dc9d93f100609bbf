//! Reads logins as Superset reads them, and their outcomes as Superset shows them.
//!
//! Part of `limit`, pure. In: the path, the body and later the head of the answer. Out: whose name it was, how it
//! ended. What cannot be read has no name; such logins are counted together, so that an odd encoding is no way around
//! the limits. Deliberately absent: the password, which nothing here looks at.

use http::StatusCode;
use http::header::LOCATION;
use percent_encoding::percent_decode;
use serde_json::Value;

use crate::head::{Fields, HeaderValue};

/// Longest body of a login in bytes. Superset's own have a few hundred.
pub const LONGEST: usize = 64 * 1024;

/// How a client logs in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By the form of a browser.
    Form,
    /// By the API.
    Api,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The client is who it says.
    Succeeded,
    /// It is not.
    Failed,
    /// Nobody tried: an error of the server, a missing token.
    Void,
}

impl Way {
    /// The user's name in a body of this type, in lower case as Superset compares it; `None` when there is none that
    /// can be read.
    pub fn user(self, content_type: Option<&HeaderValue>, body: &[u8]) -> Option<String> {
        let media = content_type.and_then(|value| value.to_str().ok()).unwrap_or("");
        let media = media.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let name = match self {
            Self::Form if media == "application/x-www-form-urlencoded" => form_field(body)?,
            // Flask takes every `application/*+json` for JSON.
            Self::Api if media == "application/json" || media.ends_with("+json") => match json_field(body)? {
                Value::String(name) => name,
                _ => return None,
            },
            Self::Form | Self::Api => return None,
        };
        let name = name.trim().to_lowercase();
        (!name.is_empty()).then_some(name)
    }

    /// How a login ended whose answer has this head. `is_form` tells whether a path is that of the form.
    pub fn outcome(self, status: StatusCode, fields: &Fields, is_form: impl Fn(&str) -> bool) -> Outcome {
        match self {
            // A form that failed comes again, at once or by a redirect to itself.
            Self::Form if status == StatusCode::OK => Outcome::Failed,
            Self::Form if status.is_redirection() => {
                match fields.get(LOCATION).map(|place| path_of(place.as_bytes())) {
                    Some(Some(path)) if is_form(path) => Outcome::Failed,
                    Some(Some(_)) => Outcome::Succeeded,
                    Some(None) | None => Outcome::Void,
                }
            }
            Self::Api if status == StatusCode::UNAUTHORIZED => Outcome::Failed,
            Self::Api if status.is_success() => Outcome::Succeeded,
            Self::Form | Self::Api => Outcome::Void,
        }
    }
}

/// The first `username` of a form: Werkzeug takes the first of several.
fn form_field(body: &[u8]) -> Option<String> {
    let decode = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_decode(&spaced).decode_utf8_lossy().into_owned()
    };
    body.split(|byte| *byte == b'&').find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at_checked(at)?;
        (decode(name) == "username").then(|| decode(value.get(1..).unwrap_or_default()))
    })
}

/// The last `username` of an object: Python takes the last of several, and so does `Value`.
fn json_field(body: &[u8]) -> Option<Value> {
    let mut object = serde_json::from_slice::<Value>(body).ok()?;
    object.get_mut("username").map(Value::take)
}

/// The path of a `Location`, which may be a path, or a URL.
fn path_of(place: &[u8]) -> Option<&str> {
    let place = std::str::from_utf8(place).ok()?;
    let place = place.split(['?', '#']).next().unwrap_or_default();
    match place.split_once("://").map(|(_, rest)| rest).or_else(|| place.strip_prefix("//")) {
        Some(rest) => Some(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")),
        None => Some(place),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form(body: &str) -> Option<String> {
        let media = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        Way::Form.user(Some(&media), body.as_bytes())
    }

    fn json(body: &str) -> Option<String> {
        Way::Api.user(Some(&HeaderValue::from_static("application/json")), body.as_bytes())
    }

    #[test]
    fn name_of_a_form_is_read_as_flask_reads_it() {
        let named = |name: &str| Some(name.to_owned());

        assert_eq!(form("csrf_token=x&username=Admin&password=y"), named("admin"));
        assert_eq!(form("user%6eame=%C3%84nne+Meier&password=y"), named("änne meier"));
        assert_eq!(form("username=first&username=second"), named("first"));
        assert_eq!(form("username=%20root%20"), named("root"));
        assert_eq!(form("username"), None);
        assert_eq!(form("password=username=x"), None);
        assert_eq!(form(""), None);
    }

    #[test]
    fn name_of_an_api_login_is_read_as_python_reads_it() {
        assert_eq!(json(r#"{"username":"Admin","password":"x","provider":"db"}"#), Some("admin".into()));
        assert_eq!(json(r#"{"username":"one","username":"two"}"#), Some("two".into()));
        assert_eq!(json(r#"{"username":7}"#), None);
        assert_eq!(json(r#"["username"]"#), None);
        assert_eq!(json("{"), None);
        assert_eq!(json(&"[".repeat(60_000)), None);
    }

    #[test]
    fn body_of_another_type_has_no_name() {
        let media = HeaderValue::from_static("multipart/form-data; boundary=x");

        assert_eq!(Way::Form.user(Some(&media), b"username=x"), None);
        assert_eq!(Way::Form.user(None, b"username=x"), None);
        assert_eq!(Way::Api.user(Some(&media), br#"{"username":"x"}"#), None);
    }

    #[test]
    fn outcome_is_what_superset_shows() {
        let form = |status: u16, location: Option<&'static str>| {
            let fields = location.map(|place| (LOCATION, HeaderValue::from_static(place))).into_iter().collect();
            let is_form = |path: &str| matches!(path, "/login" | "/login/");
            Way::Form.outcome(StatusCode::from_u16(status).unwrap(), &fields, is_form)
        };
        let api = |status: u16| Way::Api.outcome(StatusCode::from_u16(status).unwrap(), &Fields::new(), |_| false);

        assert_eq!(form(302, Some("/")), Outcome::Succeeded);
        assert_eq!(form(302, Some("https://bi.example.com/superset/welcome/")), Outcome::Succeeded);
        assert_eq!(form(302, Some("https://bi.example.com")), Outcome::Succeeded);
        assert_eq!(form(302, Some("/login/?next=%2F")), Outcome::Failed);
        assert_eq!(form(302, Some("http://bi.example.com/login/#x")), Outcome::Failed);
        assert_eq!(form(200, None), Outcome::Failed);
        assert_eq!(form(302, None), Outcome::Void);
        assert_eq!(form(401, None), Outcome::Void);
        assert_eq!(form(400, None), Outcome::Void);
        assert_eq!(form(502, None), Outcome::Void);
        assert_eq!((api(200), api(401), api(500)), (Outcome::Succeeded, Outcome::Failed, Outcome::Void));
    }

    proptest! {
        #[test]
        fn any_name_survives_its_way_through_a_form(name in "[^\\p{C}]{1,40}") {
            let encoded = percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC).to_string();
            let wanted = name.trim().to_lowercase();
            prop_assert_eq!(form(&format!("a=b&username={encoded}&c")), (!wanted.is_empty()).then_some(wanted));
        }

        #[test]
        fn anything_is_read_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let media = HeaderValue::from_static("application/x-www-form-urlencoded");
            Way::Form.user(Some(&media), &body);
            Way::Api.user(Some(&HeaderValue::from_static("application/json")), &body);
        }
    }
}
