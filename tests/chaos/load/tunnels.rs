//! WebSockets that stay open, ask for an echo again and again, and write down how they ended.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::client_async;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use super::line::dial;
use super::{PATIENCE, Target};

/// How a tunnel ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// By us, when everything was over.
    Ours,
    /// By a Close with this code.
    Close(u16),
    /// Without a Close.
    Abrupt(String),
    /// It never opened.
    Refused(String),
    /// An echo was not what had been sent.
    Wrong,
}

/// What one tunnel saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Echoes that came back right.
    pub(crate) echoes: usize,
    /// Its end.
    pub(crate) end: End,
}

/// Open tunnels.
pub(crate) struct Tunnels {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Tunnels {
    /// Opens `count` tunnels that echo a message each `pause`. A tunnel that ends is opened again if `again`.
    pub(crate) fn open(target: &Target, count: usize, pause: Duration, again: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (target, stopped, seen) = (target.clone(), stopped.clone(), Arc::clone(&seen));
            tasks.spawn_local(async move {
                loop {
                    let found = talk(&target, pause, stopped.clone()).await;
                    seen.lock().expect("no panic").push(found);
                    if !again || *stopped.borrow() {
                        return;
                    }
                    sleep(pause).await;
                }
            });
        }
        Self { stop, tasks, seen }
    }

    /// Closes them; what each saw.
    pub(crate) async fn finish(mut self) -> Vec<Seen> {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }
}

async fn talk(target: &Target, pause: Duration, mut stopped: watch::Receiver<bool>) -> Seen {
    let mut echoes = 0;
    let end = converse(target, pause, &mut stopped, &mut echoes).await;
    Seen { echoes, end }
}

async fn converse(target: &Target, pause: Duration, stopped: &mut watch::Receiver<bool>, echoes: &mut usize) -> End {
    let line = match dial(target, b"http/1.1").await {
        Ok(line) => line,
        Err(loss) => return End::Refused(format!("{loss:?}")),
    };
    let mut socket = match timeout(PATIENCE, client_async("wss://localhost/ws", line)).await {
        Ok(Ok((socket, _))) => socket,
        Ok(Err(error)) => return End::Refused(error.to_string()),
        Err(_) => return End::Refused("no answer in time".to_owned()),
    };
    let mut sent = None;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(echo))) if sent.as_deref() == Some(echo.as_str()) => {
                    *echoes += 1;
                    sent = None;
                    next = Instant::now() + pause;
                }
                Some(Ok(Message::Close(frame))) => {
                    // Completes the handshake.
                    drop(socket.next().await);
                    return End::Close(frame.map_or(CloseCode::Status, |frame| frame.code).into());
                }
                Some(Ok(Message::Text(_))) => return End::Wrong,
                Some(Ok(_)) => {}
                Some(Err(error)) => return End::Abrupt(error.to_string()),
                None => return End::Abrupt("closed".to_owned()),
            },
            () = sleep_until(next), if sent.is_none() => {
                let text = format!("{:016x}", fastrand::u64(..));
                if let Err(error) = socket.send(Message::text(text.as_str())).await {
                    return End::Abrupt(error.to_string());
                }
                sent = Some(text);
                next = Instant::now() + PATIENCE;
            }
            () = sleep_until(next), if sent.is_some() => return End::Abrupt("no echo in time".to_owned()),
            _ = stopped.wait_for(|stopped| *stopped) => {
                drop(socket.close(None).await);
                return End::Ours;
            }
        }
    }
}
