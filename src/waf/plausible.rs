//! Whether a browser is one: what it says about itself against what it sends.
//!
//! Part of `waf`. Every browser of the last ten years sends `Accept`, `Accept-Encoding` and `Accept-Language` with every
//! request. A filter in between may take one of them away; who lacks two of them never had them.

use std::sync::LazyLock;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, USER_AGENT};
use memchr::memmem::Finder;

use crate::head::Fields;

const CLIENT_HINT: HeaderName = HeaderName::from_static("sec-ch-ua");

/// What Chromium calls itself in user agents, and what it adds when nobody sees it. Made once: making one takes longer
/// than looking with it.
static CHROMIUM: LazyLock<[Finder<'static>; 3]> = LazyLock::new(|| ["Chrome/", "CriOS/", "Chromium/"].map(Finder::new));
static HEADLESS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("HeadlessChrome"));

/// Whether somebody who calls himself a browser sends what no browser sends, or lacks what all of them do.
pub(super) fn is_pretended(fields: &Fields) -> bool {
    let lacking = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE].iter().filter(|name| !fields.contains_key(*name)).count();
    lacking >= 2 || fields.get(CLIENT_HINT).is_some_and(|hint| is_contradicted(hint.as_bytes(), fields))
}

/// Client hints are Chromium's alone, whose user agents all name Chrome; one that drives itself says so there.
fn is_contradicted(hint: &[u8], fields: &Fields) -> bool {
    let agent = fields.get(USER_AGENT).map(|agent| agent.as_bytes()).unwrap_or_default();
    let says = |text: &[u8], word: &Finder<'static>| word.find(text).is_some();
    !CHROMIUM.iter().any(|name| says(agent, name)) || (says(hint, &HEADLESS) && !says(agent, &HEADLESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> Fields {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    const FIREFOX: (&str, &str) =
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");
    const CHROME: (&str, &str) = (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    );

    #[test]
    fn browser_that_lacks_what_all_have_is_none() {
        assert!(is_pretended(&fields(&[CHROME, ("accept", "*/*")])));
        assert!(!is_pretended(&fields(&[CHROME, ("accept", "*/*"), ("accept-language", "de")])));
        assert!(!is_pretended(&fields(&[FIREFOX, ("accept-encoding", "gzip"), ("accept-language", "de")])));
    }

    #[test]
    fn hints_must_go_with_the_user_agent() {
        let all = [("accept", "*/*"), ("accept-encoding", "gzip"), ("accept-language", "de")];
        let with = |agent, hint| fields(&[&[agent, ("sec-ch-ua", hint)][..], &all].concat());

        assert!(!is_pretended(&with(CHROME, "\"Chromium\";v=\"140\"")));
        assert!(is_pretended(&with(FIREFOX, "\"Chromium\";v=\"140\"")));
        assert!(is_pretended(&with(CHROME, "\"HeadlessChrome\";v=\"140\"")));
    }
}
