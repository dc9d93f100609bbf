//! `ban`, `unban` and `bans`: who is shut out of a running proxy.

use http::StatusCode;
use serde_json::{Value, json};

use super::Exit;
use super::client::{Reach, Unreached};
use super::drain::tell;
use super::output::Output;
use crate::config::units::Span;

/// Whom a ban is about.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Whom {
    /// An IP address, or a TLS fingerprint (JA4) as records have it
    #[arg(value_name = "ADDRESS|FINGERPRINT")]
    who: String,
    /// From logging in only
    #[arg(long)]
    login: bool,
}

impl Whom {
    fn body(&self) -> Value {
        json!({ "who": self.who, "scope": if self.login { "login" } else { "everything" } })
    }
}

/// Shuts out.
pub(super) fn ban(
    reach: &Reach,
    whom: &Whom,
    lasting: Option<&str>,
    reason: Option<&str>,
    output: &mut Output,
) -> Exit {
    let mut body = whom.body();
    if let Some(fields) = body.as_object_mut() {
        fields.extend(lasting.map(|lasting| ("for".to_owned(), json!(lasting))));
        fields.extend(reason.map(|reason| ("reason".to_owned(), json!(reason))));
    }
    change(reach, "/ban", &body, &format!("{} banned for {}", whom.who, lasting.unwrap_or("1h")), output)
}

/// Lets in again.
pub(super) fn unban(reach: &Reach, whom: &Whom, output: &mut Output) -> Exit {
    change(reach, "/unban", &whom.body(), &format!("{} is not banned any more", whom.who), output)
}

/// Lists who is shut out.
pub(super) fn list(reach: &Reach, as_json: bool, output: &mut Output) -> Exit {
    let bans = reach.find().and_then(|client| {
        let text = client.read("/bans")?;
        match serde_json::from_str::<Vec<Value>>(&text) {
            Ok(bans) => Ok((text, bans)),
            Err(_) => Err(Unreached::Malformed(client.to_string())),
        }
    });
    let (text, bans) = match bans {
        Ok(bans) => bans,
        Err(error) => return error.tell(output),
    };
    if as_json {
        output.line(text.trim_end());
        return Exit::Done;
    }
    let word = |ban: &Value, key: &str| ban[key].as_str().unwrap_or_default().to_owned();
    for ban in &bans {
        let left = Span(std::time::Duration::from_secs(ban["seconds_left"].as_u64().unwrap_or(0)));
        let (who, scope, reason) = (word(ban, "who"), word(ban, "scope"), word(ban, "reason"));
        output.line(format_args!("{who:<40} {scope:<10} {:>8}  {reason}", left.to_string()));
    }
    if bans.is_empty() {
        output.line("nobody is banned");
    }
    Exit::Done
}

fn change(reach: &Reach, path: &str, body: &Value, done: &str, output: &mut Output) -> Exit {
    let asked: Result<(StatusCode, String), Unreached> = reach.find().and_then(|client| client.change(path, body));
    match asked {
        Ok(answer) => tell(answer, done, output),
        Err(error) => error.tell(output),
    }
}
