//! Judges a request before it may cost anything. Stands behind identification, for nobody is judged without an address,
//! and before limits, for a refused request must not spend what others share.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::header::USER_AGENT;
use http::{HeaderName, HeaderValue, StatusCode, request};
use tokio::time::sleep;

use crate::lexicon::{AgentClass, LimitName};
use crate::route::canonical;
use crate::snapshot::Snapshot;
use crate::waf::{Facts, Ruling, agents};

use super::admit::Host;
use super::fault::Fault;
use super::record::Story;

/// Carries the secret of `shield.token`.
const TOKEN: HeaderName = HeaderName::from_static("x-shield-token");

/// What the shield remembers from one request to the next, over all workers. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Sentry {
    /// Requests that are held back.
    tarpits: Arc<AtomicUsize>,
}

/// What is known of a request that was let through.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Limits that rules want it counted on.
    #[expect(dead_code, reason = "read by the step that counts, as soon as there is one")]
    pub limits: Vec<LimitName>,
}

/// Judges a request.
///
/// # Errors
/// [`Fault::Denied`], [`Fault::Dropped`].
pub(super) async fn shield(
    head: &mut request::Parts,
    host: &Host,
    snapshot: &Snapshot,
    sentry: &Sentry,
    story: &mut Story,
) -> Result<Passed, Fault> {
    let shield = &snapshot.shield;
    let token = head.headers.remove(TOKEN);
    if let (Some(secret), Some(token)) = (&shield.token, &token)
        && secret.equals(token.as_bytes())
    {
        return Ok(Passed::default());
    }
    let path = canonical(head.uri.path());
    let client = story.record().client.ip();
    let facts = Facts {
        method: &head.method,
        path: &path,
        host: host.name(),
        fields: &head.headers,
        client,
        agent: class_of(head.headers.get(USER_AGENT)),
        fingerprint: None,
    };
    let inspection = shield.core.inspect(&facts);
    story.record().verdicts.extend(inspection.hits.iter().filter_map(|hit| shield.note(*hit)));
    match inspection.ruling {
        Ruling::Pass => Ok(Passed { limits: inspection.limits }),
        Ruling::Deny(status) => Err(Fault::Denied(status)),
        Ruling::Drop => Err(Fault::Dropped),
        Ruling::Tarpit(delay) => {
            // More of them than the bound are answered at once: patience is for us to have, not to run out of.
            if let Some(_held) = Held::below(&sentry.tarpits, snapshot.config.shield.max_tarpits) {
                sleep(delay).await;
            }
            Err(Fault::Denied(StatusCode::FORBIDDEN))
        }
    }
}

/// A request that is held back.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn below(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        let more = |now: usize| (now < most).then(|| now.saturating_add(1));
        count.fetch_update(Relaxed, Relaxed, more).ok().map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The class of a user agent, remembered: a worker hears the same few over and over.
fn class_of(agent: Option<&HeaderValue>) -> AgentClass {
    let Some(agent) = agent else { return AgentClass::None };
    HEARD.with_borrow_mut(|heard| heard.class_of(agent))
}

thread_local! {
    static HEARD: RefCell<Heard> = RefCell::new(Heard(std::array::from_fn(|_| None)));
}

/// User agents that were heard lately, each at the place that its ends and its length give it.
struct Heard([Option<(Box<[u8]>, AgentClass)>; 64]);

/// Longest user agent that is remembered; 64 of them take 32 KiB of a worker.
const LONGEST: usize = 512;

impl Heard {
    fn class_of(&mut self, agent: &HeaderValue) -> AgentClass {
        let bytes = agent.as_bytes();
        if bytes.len() > LONGEST {
            return agents::classify(Some(bytes));
        }
        let Some(place) = self.0.get_mut(place(bytes)) else { return agents::classify(Some(bytes)) };
        match place {
            Some((known, class)) if **known == *bytes => *class,
            _ => {
                let class = agents::classify(Some(bytes));
                *place = Some((bytes.into(), class));
                class
            }
        }
    }
}

/// Browsers differ by their versions, which stand in the last bytes.
fn place(agent: &[u8]) -> usize {
    let mix = |hash: usize, byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let tail = agent.get(agent.len().saturating_sub(24)..).unwrap_or(agent);
    tail.iter().fold(agent.len(), mix) % 64
}
