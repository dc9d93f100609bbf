//! A name server that says what it is told.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Seconds for which an answer may be kept.
const TTL: u32 = 1;

/// What it says.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses.
    Addresses(Vec<Ipv4Addr>),
    /// That the name exists and has no address.
    Empty,
    /// That it has failed (SERVFAIL).
    Failure,
    /// Nothing at all.
    Silence,
}

/// A name server for every name there is.
pub(crate) struct Names {
    /// Where it is asked.
    pub(crate) address: SocketAddr,
    says: Rc<RefCell<Says>>,
    task: JoinHandle<()>,
}

impl Names {
    /// Starts it.
    pub(crate) async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("its address");
        let says = Rc::new(RefCell::new(says));
        let heard = Rc::clone(&says);
        let task = tokio::task::spawn_local(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = answer(&question[..length], &heard.borrow());
                if let Some(answer) = answer {
                    // Who asked may have gone.
                    drop(socket.send_to(&answer, from).await);
                }
            }
        });
        Self { address, says, task }
    }

    /// What it says from now on.
    pub(crate) fn say(&self, says: Says) {
        *self.says.borrow_mut() = says;
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer (RFC 1035 §4.1) to a question about addresses; there is none of IPv6.
fn answer(question: &[u8], says: &Says) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: [u8; 2] = [0, 1];
    let name = question.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(HEADER..HEADER + name + 4)?;
    let (addresses, code) = match says {
        Says::Addresses(all) if asked[name..name + 2] == A => (all.as_slice(), 0),
        Says::Addresses(_) | Says::Empty => (&[][..], 0),
        Says::Failure => (&[][..], 2),
        Says::Silence => return None,
    };
    let count = u16::try_from(addresses.len()).ok()?.to_be_bytes();
    // Its number; an answer, recursion wanted and available; one question, so many answers, nothing else.
    let mut text = question[..2].to_vec();
    text.extend([0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    text.extend_from_slice(asked);
    for address in addresses {
        // The name is that of the question.
        text.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        text.extend(TTL.to_be_bytes());
        text.extend([0, 4]);
        text.extend(address.octets());
    }
    Some(text)
}
