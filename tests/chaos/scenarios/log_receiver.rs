//! Whoever takes the records over the network is away.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_local};

use super::{Needs, Playing, Scenario};
use crate::load::{Load, Shape};
use crate::report::{Finding, nothing};
use crate::stage::{Proxy, Setup, Stage};

pub(super) const AWAY: Scenario = Scenario {
    name: "log receiver away",
    fault: "the receiver of records is killed under load and comes back later",
    expected: "lost: nothing, and no record; what waited on disk arrives once the receiver is back",
    needs: Needs::Nothing,
    play: |stage| Box::pin(away(stage)) as Playing<'_>,
};

async fn away(stage: &Stage) -> Finding {
    let fleet = stage.fleet(3).await;
    let seen = Seen::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let receiver = spawn_local(receive(listener, Arc::clone(&seen)));
    let log = format!(
        "path = \"{place}/records\"\nrotate_size = 0\n[[access_log.sinks]]\nname = \"central\"\n\
         http = {{ to = {{ url = \"http://{address}/\", gzip = false }} }}\n\
         spool = {{ dir = \"{place}/spool\" }}\nbatch = {{ linger = \"100ms\" }}",
        place = stage.path().display()
    );
    let proxy = Proxy::with(stage, &fleet, Setup { log, ..Setup::default() }).await;
    let load = Load::start(&proxy.target(), &Shape::default());
    stage.play(1, 5).await;
    receiver.abort();
    drop(receiver.await);
    stage.play(4, 60).await;
    let spooled = proxy.sum("sluicegate_access_log_spool_records").await;
    let receiver = spawn_local(again(address, Arc::clone(&seen)));
    stage.play(2, 10).await;
    let fates = load.finish().await;

    // Everything that waits goes out by itself; twice the longest pause between two tries is enough.
    let mut left = f64::MAX;
    for _ in 0..200 {
        left = proxy.sum("sluicegate_access_log_spool_records").await
            + proxy.sum("sluicegate_access_log_sink_queue").await;
        if left == 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The file is written within half a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = std::fs::read(stage.path().join("records")).unwrap_or_default();
    let told = ids(&told);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let missing = told.difference(&seen).count();
    receiver.abort();

    let mut finding = Finding::of(&fates, &nothing, &fleet, &[&proxy]);
    finding.insist(spooled > 0.0, "nothing was spooled");
    finding.insist(left == 0.0, "the spool was not emptied");
    finding.insist(missing == 0 && !told.is_empty(), "records are missing");
    finding.insist(proxy.sum("sluicegate_access_log_records_dropped_total").await == 0.0, "records were dropped");
    finding.remark(format!("{} records, {spooled} of them spooled meanwhile, {missing} missing", told.len()));
    finding
}

type Seen = Arc<Mutex<BTreeSet<String>>>;

/// A receiver on the address of the one before.
async fn again(address: SocketAddr, seen: Seen) {
    // Connections of the one before may hold the port for a moment.
    loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            receive(listener, Arc::clone(&seen)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn receive(listener: TcpListener, seen: Seen) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(take(stream, Arc::clone(&seen)));
    }
}

/// Takes bodies with a length, one after the other.
async fn take(stream: TcpStream, seen: Seen) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            match line.trim_end().to_ascii_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().ok()?,
                None if line.trim_end().is_empty() => break,
                Some(_) | None => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(ids(&body));
        stream.write_all(b"HTTP/1.1 204 Taken\r\n\r\n").await.ok()?;
    }
}

/// The ids of the records in lines of JSON.
fn ids(lines: &[u8]) -> BTreeSet<String> {
    let line =
        |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).ok()?.get("id")?.as_str().map(str::to_owned);
    lines.split(|byte| *byte == b'\n').filter_map(line).collect()
}
