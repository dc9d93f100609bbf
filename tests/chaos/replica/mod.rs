//! A replica as a process of its own: a small Superset with a Gunicorn's habits, whose manners can be spoilt.
//!
//! `chaos replica NAME ADDRESS JOURNAL` listens, says `listening ADDRESS` and then takes one order a line on standard
//! input, each answered by one line; see [`Manners::obey`]. It ends when its parent does. Like the threaded Gunicorn of
//! Superset's image it answers twenty requests at once, lets the others wait, and closes a connection that has been
//! idle for two seconds. What an unsafe request did is written to JOURNAL, one line each, so that whoever compares can
//! see that nothing was done twice.

mod answer;
mod manners;

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::LocalSet;

use answer::converse;
use manners::{Accepting, Manners};

/// Threads of the Gunicorn that it stands for.
const THREADS: usize = 20;

/// What all connections of the replica share.
struct Replica {
    name: String,
    manners: RefCell<Manners>,
    threads: Semaphore,
    journal: RefCell<std::fs::File>,
    /// Told when it should end.
    leaving: Notify,
    left: Cell<bool>,
    counts: Counts,
}

/// What it has seen.
#[derive(Default)]
struct Counts {
    connections: Cell<usize>,
    begun: Cell<usize>,
    busy: Cell<usize>,
    /// Most requests at once.
    peak: Cell<usize>,
}

/// Runs the replica that `words` describe, to its end.
pub(crate) fn run(words: &[String]) {
    let [name, address, journal] = words else { panic!("replica NAME ADDRESS JOURNAL") };
    let address: SocketAddr = address.parse().expect("an address");
    let journal = std::fs::OpenOptions::new().append(true).create(true).open(journal).expect("the journal");
    let replica = Rc::new(Replica {
        name: name.clone(),
        manners: RefCell::default(),
        threads: Semaphore::new(THREADS),
        journal: RefCell::new(journal),
        leaving: Notify::new(),
        left: Cell::new(false),
        counts: Counts::default(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(live(replica, address)));
}

async fn live(replica: Rc<Replica>, address: SocketAddr) {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
    // The one before it has just been killed, with connections open.
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("the address");
    let listener = socket.listen(1024).expect("to listen");
    say(&format!("listening {}", listener.local_addr().expect("an address")));
    let orders = tokio::task::spawn_local(obey(Rc::clone(&replica)));
    accept(&replica, listener).await;
    // Asked to finish: what is under way ends as if nothing had happened.
    while replica.counts.begun.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    orders.abort();
}

/// Serves until it is told to leave; returns with the listener closed.
async fn accept(replica: &Rc<Replica>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = replica.leaving.notified() => return,
        };
        // Out of descriptors, perhaps: no reason to end.
        let Ok((stream, _)) = accepted else { continue };
        replica.counts.connections.set(replica.counts.connections.get() + 1);
        if replica.manners.borrow().accepting == Accepting::Reset {
            reset(stream);
            continue;
        }
        drop(stream.set_nodelay(true));
        let replica = Rc::clone(replica);
        tokio::task::spawn_local(async move {
            // The other end may leave whenever it likes.
            drop(converse(stream, &replica).await);
        });
    }
}

async fn obey(replica: Rc<Replica>) {
    let (tell, mut orders) = mpsc::channel(1);
    std::thread::spawn(move || {
        for order in std::io::stdin().lines().map_while(Result::ok) {
            if tell.blocking_send(order).is_err() {
                return;
            }
        }
    });
    while let Some(order) = orders.recv().await {
        match order.as_str() {
            "count" => {
                let Counts { connections, peak, .. } = &replica.counts;
                say(&format!("{} {}", connections.get(), peak.get()));
            }
            "finish" => {
                replica.left.set(true);
                replica.leaving.notify_one();
                say("finishing");
            }
            other => {
                replica.manners.borrow_mut().obey(other);
                say("so be it");
            }
        }
    }
    // Nobody is left who could want anything.
    std::process::exit(0);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Who does not listen learns nothing.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Ends a connection with RST instead of FIN.
fn reset(stream: TcpStream) {
    drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    drop(stream);
}
