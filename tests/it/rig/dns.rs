//! A little name server over UDP whose answers the test changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::soon;

/// What it says about a name.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Addresses with a time to live.
    Addresses(Vec<IpAddr>, u32),
    /// Services: priority, weight, port, target; with a time to live.
    Services(Vec<(u16, u16, u16, &'static str)>, u32),
    /// Names of an address.
    Names(Vec<&'static str>, u32),
    /// SERVFAIL.
    Failure,
    /// The name exists and has no such record.
    NoRecord,
}

/// A name server; ends with the test. Unknown names do not exist.
pub(crate) struct NameServer {
    /// Its address.
    pub(crate) address: SocketAddr,
    told: Arc<Mutex<BTreeMap<String, Told>>>,
    /// Whether answers are kept back.
    held: watch::Sender<bool>,
    /// Questions so far.
    asked: watch::Receiver<usize>,
    serving: JoinHandle<()>,
}

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const PTR: u16 = 12;

impl NameServer {
    /// One that knows nothing yet.
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let told: Arc<Mutex<BTreeMap<String, Told>>> = Arc::default();
        let known = Arc::clone(&told);
        let (held, mut holding) = watch::channel(false);
        let (count, asked) = watch::channel(0);
        let serving = tokio::spawn(async move {
            let mut question = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = answer(&question[..length], &known.lock().unwrap());
                count.send_modify(|asked| *asked += 1);
                if holding.wait_for(|held| !held).await.is_err() {
                    return;
                }
                drop(socket.send_to(&answer, from).await);
            }
        });
        Self { address, told, held, asked, serving }
    }

    /// Keeps its answers back, or gives them.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Waits for a question from now on.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.clone();
        let before = *asked.borrow_and_update();
        soon("a question", asked.wait_for(|now| *now > before)).await.unwrap();
    }

    /// Says this about `name` from now on.
    pub(crate) fn tell(&self, name: &str, what: Told) {
        self.told.lock().unwrap().insert(name.to_owned(), what);
    }

    /// Says from now on that `name` does not exist.
    pub(crate) fn forget(&self, name: &str) {
        self.told.lock().unwrap().remove(name);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// RFC 1035 §4: the question again, then one record for each answer.
fn answer(question: &[u8], known: &BTreeMap<String, Told>) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = 12;
    while question[at] != 0 {
        let length = usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    let end = at + 5;
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let mut records: Vec<(u32, Vec<u8>)> = Vec::new();
    let code = match known.get(&name.join(".")) {
        None => 3,
        Some(Told::Failure) => 2,
        Some(Told::NoRecord) => 0,
        Some(Told::Addresses(ips, ttl)) => {
            for ip in ips {
                match (ip, kind) {
                    (IpAddr::V4(ip), A) => records.push((*ttl, ip.octets().to_vec())),
                    (IpAddr::V6(ip), AAAA) => records.push((*ttl, ip.octets().to_vec())),
                    _ => {}
                }
            }
            0
        }
        Some(Told::Services(services, ttl)) => {
            for (priority, weight, port, target) in services.iter().filter(|_| kind == SRV) {
                let mut data = [priority.to_be_bytes(), weight.to_be_bytes(), port.to_be_bytes()].concat();
                data.extend(labels(target));
                records.push((*ttl, data));
            }
            0
        }
        Some(Told::Names(names, ttl)) => {
            records.extend(names.iter().filter(|_| kind == PTR).map(|name| (*ttl, labels(name))));
            0
        }
    };
    let mut answer = question[..2].to_vec();
    answer.extend_from_slice(&[0x81, 0x80 | code, 0, 1]);
    answer.extend_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
    answer.extend_from_slice(&[0, 0, 0, 0]);
    answer.extend_from_slice(&question[12..end]);
    for (ttl, data) in records {
        answer.extend_from_slice(&[0xc0, 12]);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend_from_slice(&[0, 1]);
        answer.extend_from_slice(&ttl.to_be_bytes());
        answer.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        answer.extend_from_slice(&data);
    }
    answer
}
