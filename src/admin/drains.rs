//! `/drain` and `/undrain`: endpoints out of service and back.
//!
//! Part of `admin`. The body names an endpoint of a pool or a zone: `{"pool": "superset", "endpoint": "10.0.0.1:8088"}`
//! or `{"zone": "a"}`; a drain may have `"for": "15m"`, and `"force": true` to take the last endpoint of a pool.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::Operations;
use super::changes::{Done, Wrong};
use crate::balance::drain::Target;
use crate::config::units::Span;
use crate::control::drains::Refused;
use crate::lexicon::{EndpointName, PoolName, ZoneName};

/// Longest time for which something is taken out; without `for` there is no end.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    pool: Option<String>,
    endpoint: Option<String>,
    zone: Option<String>,
    #[serde(rename = "for")]
    lasting: Option<String>,
    #[serde(default)]
    force: bool,
}

/// Takes out.
pub(super) fn drain(operations: &dyn Operations, body: &[u8]) -> Result<Done, Wrong> {
    let body = read(body)?;
    let (target, lasting) = (body.target()?, body.lasting()?);
    operations.drain(target.clone(), lasting, body.force)?;
    let (what, ends) = match &body.lasting {
        Some(span) => (format!("{target} for {span}"), json!(span)),
        None => (target.to_string(), json!(null)),
    };
    Ok(Done { what, answer: json!({ "drained": target.to_string(), "for": ends }) })
}

/// Puts back.
pub(super) fn undrain(operations: &dyn Operations, body: &[u8]) -> Result<Done, Wrong> {
    let body = read(body)?;
    if body.lasting.is_some() || body.force {
        return Err(Wrong::Malformed("`for` and `force` are for draining".into()));
    }
    let target = body.target()?;
    operations.undrain(target.clone())?;
    Ok(Done { what: target.to_string(), answer: json!({ "undrained": target.to_string() }) })
}

impl From<Refused> for Wrong {
    fn from(refused: Refused) -> Self {
        let why = refused.to_string();
        match refused {
            Refused::Unknown(_) | Refused::NotDrained(_) => Self::Unknown(why),
            Refused::Last(_) => Self::Conflict(format!("{why}; `force` takes the last one all the same")),
            Refused::Full => Self::Conflict(why),
        }
    }
}

fn read(body: &[u8]) -> Result<Body, Wrong> {
    serde_json::from_slice(body).map_err(|error| Wrong::Malformed(format!("not a drain: {error}")))
}

impl Body {
    fn target(&self) -> Result<Target, Wrong> {
        match (&self.pool, &self.endpoint, &self.zone) {
            (Some(pool), Some(endpoint), None) => {
                Ok(Target::Endpoint { pool: PoolName::new(pool), endpoint: EndpointName::new(endpoint) })
            }
            (None, None, Some(zone)) => Ok(Target::Zone(ZoneName::new(zone))),
            _ => Err(Wrong::Malformed("give `pool` and `endpoint`, or `zone`".into())),
        }
    }

    fn lasting(&self) -> Result<Option<Duration>, Wrong> {
        let Some(text) = &self.lasting else { return Ok(None) };
        let wrong = || Wrong::Malformed("`for` must be a duration such as \"15m\", at most 30d".into());
        let Span(lasting) = text.parse().map_err(|_| wrong())?;
        if lasting.is_zero() || lasting > LONGEST { Err(wrong()) } else { Ok(Some(lasting)) }
    }
}
