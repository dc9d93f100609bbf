//! The classes of user agents that a worker has heard lately: it hears the same few over and over.

use std::cell::RefCell;

use crate::head::HeaderValue;
use crate::lexicon::AgentClass;
use crate::waf::agents;

thread_local! {
    static HEARD: RefCell<Heard> = RefCell::new(Heard(std::array::from_fn(|_| None)));
}

/// Each at the place that its end and its length give it.
struct Heard([Option<(Box<[u8]>, AgentClass)>; PLACES]);

/// User agents that are remembered.
const PLACES: usize = 64;

/// Longest one that is remembered: 64 of them take 32 KiB of a worker.
const LONGEST: usize = 512;

/// The class of a user agent.
pub(super) fn class_of(agent: Option<&HeaderValue>) -> AgentClass {
    match agent.map(HeaderValue::as_bytes) {
        None => AgentClass::None,
        Some(agent) if agent.len() > LONGEST => agents::classify(Some(agent)),
        Some(agent) => HEARD.with_borrow_mut(|heard| heard.class_of(agent)),
    }
}

impl Heard {
    fn class_of(&mut self, agent: &[u8]) -> AgentClass {
        let Some(place) = self.0.get_mut(place(agent)) else { return agents::classify(Some(agent)) };
        match place {
            Some((known, class)) if **known == *agent => *class,
            _ => {
                let class = agents::classify(Some(agent));
                *place = Some((agent.into(), class));
                class
            }
        }
    }
}

/// Browsers differ by their versions, which stand in their last bytes.
fn place(agent: &[u8]) -> usize {
    let mix = |hash: usize, byte: &u8| hash.wrapping_mul(31).wrapping_add(usize::from(*byte));
    let tail = agent.get(agent.len().saturating_sub(24)..).unwrap_or(agent);
    tail.iter().fold(agent.len(), mix) % PLACES
}
