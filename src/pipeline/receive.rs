//! Collects a request body before an endpoint is leased.
//!
//! Twenty half-sent requests stop a Gunicorn replica for good, so that no endpoint sees a request whose client is
//! still sending. What was collected can be sent again. Memory holds the first part of a body, a temporary file
//! without a name the rest; both are bounded, per request and in sum, and no worker waits for the disk. Beyond the bound
//! of a request its rest streams, under the listener's minimum rate.

mod file;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};

use crate::body::{Body, BodyError, Frame, Source};
use crate::config;
use crate::config::process::Process;
use crate::config::route::RequestBuffer;
use crate::head::Fields;
use crate::limit::login::LONGEST as LONGEST_LOGIN;

use super::Pipeline;
use super::fault::Fault;
use super::forward::Outgoing;
use super::record::Story;

use self::file::Reading;

/// A login's body is collected in memory, or refused.
const LOGIN_BODY: RequestBuffer = RequestBuffer { memory: LONGEST_LOGIN, max: LONGEST_LOGIN as u64 };

/// Bytes that are gathered for a temporary file before they are written.
const WRITE: u64 = 256 * 1024;

/// What all bodies together may hold, and do. Shared by the workers.
#[derive(Debug)]
pub struct Vault {
    memory: Allowance,
    disk: Allowance,
    directory: PathBuf,
}

#[derive(Debug)]
struct Allowance {
    most: u64,
    used: AtomicU64,
}

impl Vault {
    /// A vault with the bounds of `process`.
    pub fn new(process: &Process) -> Self {
        Self {
            memory: Allowance { most: process.buffer_memory, used: AtomicU64::new(0) },
            disk: Allowance { most: process.temp_bytes, used: AtomicU64::new(0) },
            directory: process.temp_dir.clone(),
        }
    }

    /// Bytes of bodies in memory.
    pub fn in_memory(&self) -> u64 {
        self.memory.used.load(Ordering::Relaxed)
    }

    /// Bytes of bodies in temporary files.
    pub fn on_disk(&self) -> u64 {
        self.disk.used.load(Ordering::Relaxed)
    }
}

impl Allowance {
    fn take(&self, bytes: u64) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= self.most)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A collected body.
#[derive(Debug)]
pub struct Kept {
    memory: Vec<Bytes>,
    file: Option<Arc<File>>,
    in_memory: u64,
    in_file: u64,
    /// Memory of what is gathered for the file.
    gathered: u64,
    trailers: Option<Fields>,
    vault: Arc<Vault>,
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
    let mut kept = Kept {
        memory: Vec::new(),
        file: None,
        in_memory: 0,
        in_file: 0,
        gathered: 0,
        trailers: None,
        vault: Arc::clone(vault),
    };
    let mut pending = Pending::default();
    loop {
        match body.frame().await {
            None => break,
            Some(Ok(Frame::Trailers(trailers))) => {
                kept.trailers = Some(trailers);
                break;
            }
            Some(Ok(Frame::Data(content))) => kept.add(content, &mut pending, bounds.memory).await?,
            Some(Err(error)) => return Err(error),
        }
        if kept.length() + pending.length >= bounds.max && !body.is_end() {
            kept.write(&mut pending).await?;
            return Ok(Collected::Beginning(Arc::new(kept), body));
        }
    }
    kept.write(&mut pending).await?;
    Ok(Collected::Whole(Arc::new(kept)))
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
    pub const fn length(&self) -> u64 {
        self.in_memory.saturating_add(self.in_file)
    }

    /// All of it, when all of it is in memory.
    pub fn in_memory(&self) -> Option<Vec<u8>> {
        (self.in_file == 0).then(|| self.memory.concat())
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

    async fn add(&mut self, content: Bytes, pending: &mut Pending, memory: usize) -> Result<(), BodyError> {
        let length = content.len() as u64;
        let fits = self.in_memory.saturating_add(length) <= memory as u64;
        if self.file.is_none() && pending.length == 0 && fits && self.vault.memory.take(length) {
            self.in_memory += length;
            join(&mut self.memory, content);
            return Ok(());
        }
        // Without room to gather it is written as it comes, piece by piece: slower, and within the bound.
        let has_room = self.vault.memory.take(length);
        self.gathered += if has_room { length } else { 0 };
        pending.length += length;
        join(&mut pending.pieces, content);
        if pending.length >= WRITE || !has_room { self.write(pending).await } else { Ok(()) }
    }

    /// Writes what is pending to the file, off the worker.
    async fn write(&mut self, pending: &mut Pending) -> Result<(), BodyError> {
        let Pending { pieces, length } = std::mem::take(pending);
        if length == 0 {
            return Ok(());
        }
        if !self.vault.disk.take(length) {
            return Err(BodyError::Buffer(io::ErrorKind::StorageFull.into()));
        }
        let offset = self.in_file;
        // From here on the bytes are this body's to give back, whatever comes of the write.
        self.in_file += length;
        let written = file::write(self.file.clone(), self.vault.directory.clone(), pieces, offset).await;
        self.vault.memory.give_back(std::mem::take(&mut self.gathered));
        self.file = Some(written.map_err(BodyError::Buffer)?);
        Ok(())
    }
}

/// What is gathered for the file.
#[derive(Default)]
struct Pending {
    pieces: Vec<Bytes>,
    length: u64,
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

impl Drop for Kept {
    fn drop(&mut self) {
        self.vault.memory.give_back(self.in_memory.saturating_add(self.gathered));
        self.vault.disk.give_back(self.in_file);
    }
}

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
        if self.position < self.kept.in_file {
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
        let left = self.kept.in_file.saturating_sub(self.position);
        self.reading.poll(cx, file, self.position, left).map(|read| {
            let bytes = read.map_err(BodyError::Buffer)?;
            self.position = self.position.saturating_add(bytes.len() as u64);
            Ok(Frame::Data(bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(memory: u64, disk: u64) -> Arc<Vault> {
        Arc::new(Vault {
            memory: Allowance { most: memory, used: AtomicU64::new(0) },
            disk: Allowance { most: disk, used: AtomicU64::new(0) },
            directory: std::env::temp_dir(),
        })
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
        assert_eq!((vault.in_memory(), vault.on_disk()), (0, 0));
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
        assert_eq!((vault.in_memory(), vault.on_disk()), (0, 0));
    }

    #[tokio::test]
    async fn full_disk_is_an_error_and_leaks_nothing() {
        let vault = vault(100, 1000);
        let bounds = RequestBuffer { memory: 1000, max: 1 << 20 };

        let collected = collect(pieces(100, 300), &bounds, &vault).await;

        assert!(matches!(collected, Err(BodyError::Buffer(_))));
        assert_eq!((vault.in_memory(), vault.on_disk()), (0, 0));
    }
}
