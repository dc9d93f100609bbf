//! Collects a request body before an endpoint is leased.
//!
//! Twenty half-sent requests stop a Gunicorn replica for good, so that no endpoint sees a request whose client is
//! still sending. What was collected can be sent again. Memory holds the first part of a body, a temporary file
//! without a name the rest; both are bounded, per request and in sum, and no worker waits for the disk. Beyond the bound
//! of a request its rest streams, under the listener's minimum rate.

mod file;
mod vault;

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use crate::body::{Body, BodyError, Frame, Source};
use crate::config;
use crate::config::route::RequestBuffer;
use crate::head::Fields;
use crate::limit::login::LONGEST as LONGEST_LOGIN;

use super::Pipeline;
use super::fault::Fault;
use super::forward::Outgoing;
use super::record::Story;
use file::{Reading, Spill};
use vault::Share;
pub use vault::Vault;

/// A login's body is collected in memory, or refused.
const LOGIN_BODY: RequestBuffer = RequestBuffer { memory: LONGEST_LOGIN, max: LONGEST_LOGIN as u64 };

/// Bytes that are gathered for a temporary file before they are written.
const WRITE: u64 = 256 * 1024;

/// A collected body.
#[derive(Debug)]
pub struct Kept {
    memory: Vec<Bytes>,
    in_memory: Share,
    file: Option<Arc<Spill>>,
    trailers: Option<Fields>,
}

/// What collecting came to.
pub enum Collected {
    /// All of it.
    Whole(Arc<Kept>),
    /// Its beginning; the rest still streams.
    Beginning(Arc<Kept>, Body),
}

/// Collects `body` as far as `bounds` allow.
///
/// # Errors
/// What the client's side says, or [`BodyError::Buffer`] when neither memory nor disk is left.
pub async fn collect(mut body: Body, bounds: &RequestBuffer, vault: &Arc<Vault>) -> Result<Collected, BodyError> {
    let mut kept = Kept { memory: Vec::new(), in_memory: vault.memory.share(), file: None, trailers: None };
    let mut pending = Pending::new(vault);
    let rest = loop {
        match body.frame().await {
            None => break None,
            Some(Ok(Frame::Trailers(trailers))) => {
                kept.trailers = Some(trailers);
                break None;
            }
            Some(Ok(Frame::Data(content))) => {
                if let Some(content) = kept.add(content, &pending, bounds.memory) {
                    pending.add(content).await?;
                }
            }
            Some(Err(error)) => return Err(error),
        }
        if kept.length().saturating_add(pending.length()) >= bounds.max && !body.is_end() {
            break Some(body);
        }
    };
    kept.file = pending.finish().await?.map(Arc::new);
    let kept = Arc::new(kept);
    Ok(match rest {
        None => Collected::Whole(kept),
        Some(rest) => Collected::Beginning(kept, rest),
    })
}

impl Pipeline {
    /// Collects the body as far as the route wants it.
    pub(super) async fn receive(
        &self,
        body: Body,
        route: &config::Route,
        is_login: bool,
        story: &mut Story,
    ) -> Result<Outgoing, Fault> {
        if body.is_end() {
            return Ok(Outgoing::Empty);
        }
        if is_login && body.remaining().is_some_and(|length| length > LOGIN_BODY.max) {
            return Err(Fault::BodyTooLarge);
        }
        let bounds = match &route.request_buffer {
            // It is read whatever the route says, and never long.
            _ if is_login => &LOGIN_BODY,
            // What would not fit anyway streams from its beginning.
            Some(bounds) if body.remaining().is_none_or(|length| length <= bounds.max) => bounds,
            _ => return Ok(Outgoing::Stream(Some(body))),
        };
        let since = Instant::now();
        let end = story.deadline(route);
        let collecting = async {
            match end {
                None => Ok(collect(body, bounds, &self.0.vault).await),
                Some(end) => timeout_at(end, collect(body, bounds, &self.0.vault)).await,
            }
        };
        let collected = Box::pin(collecting).await;
        story.record().stages.receive = since.elapsed();
        match collected.map_err(|_| Fault::ExchangeLate)? {
            Ok(Collected::Whole(kept)) if is_login && kept.length() > LOGIN_BODY.max => Err(Fault::BodyTooLarge),
            Ok(Collected::Whole(kept)) => Ok(Outgoing::Kept(kept)),
            Ok(Collected::Beginning(..)) if is_login => Err(Fault::BodyTooLarge),
            Ok(Collected::Beginning(kept, rest)) => Ok(Outgoing::Stream(Some(kept.body_before(Some(rest))))),
            Err(error) => Err(Fault::from(&error)),
        }
    }
}

impl Kept {
    /// Bytes collected.
    pub fn length(&self) -> u64 {
        self.in_memory.bytes().saturating_add(self.in_file())
    }

    fn in_file(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.length())
    }

    /// All of it, when all of it is in memory.
    pub fn in_memory(&self) -> Option<Vec<u8>> {
        self.file.is_none().then(|| self.memory.concat())
    }

    /// The body, from its beginning.
    pub fn body(self: &Arc<Self>) -> Body {
        self.body_before(None)
    }

    /// The body, with `rest` behind it.
    pub fn body_before(self: &Arc<Self>, rest: Option<Body>) -> Body {
        if self.length() == 0 && self.trailers.is_none() {
            return rest.unwrap_or_default();
        }
        Body::stream(Replay {
            kept: Arc::clone(self),
            piece: 0,
            position: 0,
            reading: Reading::default(),
            rest,
            trailed: false,
        })
    }

    /// Keeps `content` in memory, or gives it back for the file.
    fn add(&mut self, content: Bytes, pending: &Pending, memory: usize) -> Option<Bytes> {
        let length = content.len() as u64;
        let fits = self.in_memory.bytes().saturating_add(length) <= memory as u64;
        if pending.length() > 0 || !fits || !self.in_memory.grow(length) {
            return Some(content);
        }
        join(&mut self.memory, content);
        None
    }
}

/// What goes to the file.
struct Pending {
    vault: Arc<Vault>,
    pieces: Vec<Bytes>,
    /// Bytes of the pieces.
    gathered: u64,
    in_memory: Share,
    file: Option<Spill>,
}

impl Pending {
    fn new(vault: &Arc<Vault>) -> Self {
        Self { pieces: Vec::new(), gathered: 0, in_memory: vault.memory.share(), file: None, vault: Arc::clone(vault) }
    }

    fn length(&self) -> u64 {
        self.gathered.saturating_add(self.file.as_ref().map_or(0, Spill::length))
    }

    async fn add(&mut self, content: Bytes) -> Result<(), BodyError> {
        let length = content.len() as u64;
        // Without room to gather it is written as it comes, piece by piece: slower, and within the bound.
        let has_room = self.in_memory.grow(length);
        self.gathered = self.gathered.saturating_add(length);
        join(&mut self.pieces, content);
        if self.gathered >= WRITE || !has_room { self.write().await } else { Ok(()) }
    }

    /// Writes what is gathered. Whoever leaves meanwhile takes nothing off its shares: they are given back when the disk has
    /// done.
    async fn write(&mut self) -> Result<(), BodyError> {
        let (pieces, length) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.gathered));
        let file = self.file.take().unwrap_or_else(|| Spill::new(self.vault.disk.share()));
        let written = file.write(&self.vault.directory, pieces, length, self.in_memory.take()).await;
        self.file = Some(written.map_err(BodyError::Buffer)?);
        Ok(())
    }

    /// Writes the last of it; none where nothing went to a file.
    async fn finish(mut self) -> Result<Option<Spill>, BodyError> {
        if self.gathered > 0 {
            self.write().await?;
        }
        Ok(self.file)
    }
}

/// Adds `content` to `pieces`. Small ones are joined: each of its own would keep a whole read buffer alive.
fn join(pieces: &mut Vec<Bytes>, content: Bytes) {
    match pieces.last_mut() {
        Some(last) if last.len() + content.len() <= SMALL => {
            let mut joined = std::mem::take(last).try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
            joined.extend_from_slice(&content);
            *last = joined.freeze();
        }
        _ if content.len() <= SMALL => pieces.push(Bytes::copy_from_slice(&content)),
        _ => pieces.push(content),
    }
}

/// Pieces up to this size are joined, in bytes. A connection reads into a buffer of at most twice that, so that what is kept
/// takes no more than twice its length.
const SMALL: usize = 32 * 1024;

/// A collected body on its way out.
struct Replay {
    kept: Arc<Kept>,
    piece: usize,
    position: u64,
    reading: Reading,
    rest: Option<Body>,
    trailed: bool,
}

impl Source for Replay {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(piece) = self.kept.memory.get(self.piece) {
            self.piece += 1;
            return Poll::Ready(Some(Ok(Frame::Data(piece.clone()))));
        }
        if self.position < self.kept.in_file() {
            return self.poll_file(cx).map(Some);
        }
        if let Some(rest) = &mut self.rest {
            return rest.poll_frame(cx);
        }
        match &self.kept.trailers {
            Some(trailers) if !self.trailed => {
                self.trailed = true;
                Poll::Ready(Some(Ok(Frame::Trailers(trailers.clone()))))
            }
            _ => Poll::Ready(None),
        }
    }

    fn remaining(&self) -> Option<u64> {
        // Trailers need chunks (RFC 9112 §7.1.2).
        if self.kept.trailers.is_some() && !self.trailed {
            return None;
        }
        let sent: u64 = self.kept.memory.iter().take(self.piece).map(|piece| piece.len() as u64).sum();
        let left = self.kept.length().saturating_sub(sent).saturating_sub(self.position);
        match &self.rest {
            None => Some(left),
            Some(rest) => rest.remaining().map(|rest| left.saturating_add(rest)),
        }
    }
}

impl Replay {
    fn poll_file(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        let Some(file) = &self.kept.file else {
            return Poll::Ready(Err(BodyError::Buffer(io::ErrorKind::NotFound.into())));
        };
        self.reading.poll(cx, file, self.position).map(|read| {
            let bytes = read.map_err(BodyError::Buffer)?;
            self.position = self.position.saturating_add(bytes.len() as u64);
            Ok(Frame::Data(bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::vault::Allowance;
    use super::*;

    fn vault(memory: u64, disk: u64) -> Arc<Vault> {
        let directory = std::env::temp_dir();
        Arc::new(Vault { memory: Allowance::of(memory), disk: Allowance::of(disk), directory })
    }

    /// Waits until nothing is held any more: files are closed by another thread.
    async fn given_back(vault: &Vault) {
        let empty = async {
            while (vault.in_memory(), vault.on_disk()) != (0, 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), empty).await.expect("all is given back");
    }

    struct Pieces(Vec<Bytes>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            Poll::Ready((!self.0.is_empty()).then(|| Ok(Frame::Data(self.0.remove(0)))))
        }

        fn remaining(&self) -> Option<u64> {
            None
        }
    }

    /// Pieces after which nothing comes, and no end.
    struct Stalled(Pieces);

    impl Source for Stalled {
        fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            let polled = self.0.poll_frame(cx);
            if matches!(polled, Poll::Ready(None)) { Poll::Pending } else { polled }
        }

        fn remaining(&self) -> Option<u64> {
            None
        }
    }

    fn pieces(count: usize, size: usize) -> Body {
        Body::stream(Pieces((0..count).map(|at| Bytes::from(vec![u8::try_from(at % 251).unwrap(); size])).collect()))
    }

    async fn read(mut body: Body) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Frame::Data(content) = frame.unwrap() {
                all.extend_from_slice(&content);
            }
        }
        all
    }

    #[tokio::test]
    async fn body_beyond_its_memory_is_kept_in_a_file_and_can_be_sent_again() {
        let vault = vault(1 << 20, 1 << 20);
        let bounds = RequestBuffer { memory: 1000, max: 1 << 20 };

        let Ok(Collected::Whole(kept)) = collect(pieces(1000, 300), &bounds, &vault).await else { panic!("not whole") };

        let expected = read(pieces(1000, 300)).await;
        assert_eq!(kept.body().remaining(), Some(300_000));
        assert_eq!(read(kept.body()).await, expected);
        assert_eq!(read(kept.body()).await, expected);
        assert!(vault.in_memory() <= 1000 && vault.on_disk() >= 299_000);
        drop(kept);
        given_back(&vault).await;
    }

    #[tokio::test]
    async fn body_beyond_its_bound_streams_on() {
        let vault = vault(1 << 20, 1 << 20);
        let bounds = RequestBuffer { memory: 1000, max: 5000 };

        let Ok(Collected::Beginning(kept, rest)) = collect(pieces(100, 300), &bounds, &vault).await else {
            panic!("not cut")
        };

        assert!(kept.length() < 6000);
        assert_eq!(read(kept.body_before(Some(rest))).await, read(pieces(100, 300)).await);
    }

    #[test]
    fn small_piece_keeps_no_read_buffer_alive() {
        let (buffer, mut pieces) = (Bytes::from(vec![7; 2 * SMALL]), Vec::new());

        join(&mut pieces, buffer.slice(..10));
        join(&mut pieces, buffer.slice(..SMALL - 10));
        join(&mut pieces, buffer.slice(..SMALL));
        assert!(buffer.is_unique());
        join(&mut pieces, buffer.slice(..=SMALL));
        assert!(!buffer.is_unique());

        let lengths: Vec<_> = pieces.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [SMALL, SMALL, SMALL + 1]);
    }

    #[tokio::test]
    async fn what_is_gathered_for_the_file_counts_as_memory_and_is_given_back() {
        let vault = vault(100_000, 1 << 20);
        let bounds = RequestBuffer { memory: 1000, max: 1 << 20 };
        let endless = || Body::stream(Stalled(Pieces((0..30).map(|_| Bytes::from(vec![0; 1000])).collect())));

        let mut one = Box::pin(collect(endless(), &bounds, &vault));
        assert!(futures_util::poll!(&mut one).is_pending());
        assert_eq!((vault.in_memory(), vault.on_disk()), (30_000, 0));
        let others: Vec<_> = (0..3).map(|_| Box::pin(collect(endless(), &bounds, &vault))).collect();
        let mut others = futures_util::future::join_all(others);
        while vault.on_disk() == 0 {
            assert!(futures_util::poll!(&mut others).is_pending());
            tokio::task::yield_now().await;
        }

        assert!(vault.in_memory() <= 100_000, "who finds no room writes at once");
        drop((one, others));
        given_back(&vault).await;
    }

    #[test]
    fn worker_waits_for_no_disk_and_what_the_disk_has_not_done_is_held() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let vault = vault(1 << 20, 1 << 20);
            let bounds = RequestBuffer { memory: 1000, max: 1 << 20 };
            let Ok(Collected::Whole(kept)) = collect(pieces(10, 300), &bounds, &vault).await else {
                panic!("not whole")
            };
            // The one thread for files is busy.
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let disk = tokio::task::spawn_blocking(move || busy.recv());

            let mut leaves = Box::pin(collect(pieces(10, 300), &bounds, &vault));
            assert!(futures_util::poll!(&mut leaves).is_pending());
            let held = (vault.in_memory(), vault.on_disk());
            drop(kept);
            drop(leaves);
            // What was in memory alone is free: 900 bytes each.
            assert_eq!((vault.in_memory(), vault.on_disk()), (held.0 - 1800, held.1));

            free.send(()).unwrap();
            disk.await.unwrap().unwrap();
            given_back(&vault).await;
        });
    }

    #[tokio::test]
    async fn full_disk_is_an_error_and_leaks_nothing() {
        let vault = vault(100, 1000);
        let bounds = RequestBuffer { memory: 1000, max: 1 << 20 };

        let collected = collect(pieces(100, 300), &bounds, &vault).await;

        assert!(matches!(collected, Err(BodyError::Buffer(_))));
        given_back(&vault).await;
    }
}
