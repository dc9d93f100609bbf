//! One direction of a tunnel.
//!
//! Floor 3. Reads from one side, shows the bytes to its observer and writes what may pass to the other.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::Passed;
use crate::message::Duplex;
use crate::upstream::observer::{self, MAX_HEADER, Observer, Offence, Side, Until};

/// Bytes read at once, and so kept at most.
const SCRATCH: usize = 64 << 10;

/// Reads in one go before other tunnels get their turn.
const ROUNDS: usize = 8;

thread_local! {
    /// Taken while a direction reads: tunnels of a thread read one after the other.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What ends a direction before its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// That side's connection failed.
    Gone(Side),
    /// That side sent what must not pass.
    Offence(Side, Offence),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Bytes pass.
    Passing,
    /// Bytes pass up to the next boundary, where a Close with this code is put.
    Stopping(u16),
    /// Bytes are looked through for the answer to our Close and dropped.
    Dropping,
}

/// One direction.
pub(super) struct Flow {
    observer: Observer,
    sender: Side,
    state: State,
    /// The beginning of a header.
    held: [u8; MAX_HEADER],
    held_length: usize,
    /// What the receiver has not taken yet, from `written` on.
    pending: Vec<u8>,
    written: usize,
    /// Whether the receiver may keep bytes unflushed.
    dirty: bool,
    read_ended: bool,
    shut: bool,
    /// After an offence nothing can be told about the bytes.
    blind: bool,
    /// Whether the offence was broken framing, which passes, and all that follows with it.
    broken: bool,
}

impl Flow {
    pub(super) const fn new(sender: Side, max_frame: u64) -> Self {
        Self {
            observer: Observer::new(sender, max_frame),
            sender,
            state: State::Passing,
            held: [0; MAX_HEADER],
            held_length: 0,
            pending: Vec::new(),
            written: 0,
            dirty: false,
            read_ended: false,
            shut: false,
            blind: false,
            broken: false,
        }
    }

    pub(super) const fn sender(&self) -> Side {
        self.sender
    }

    /// Whether the sender has sent a Close.
    pub(super) const fn is_closed(&self) -> bool {
        self.observer.is_closed()
    }

    /// Whether the sender has ended its half.
    pub(super) const fn has_ended(&self) -> bool {
        self.read_ended
    }

    /// Whether nothing more is to be done.
    pub(super) fn is_over(&self) -> bool {
        match self.state {
            State::Passing | State::Stopping(_) => self.shut,
            State::Dropping => {
                self.written >= self.pending.len()
                    && !self.dirty
                    && (self.read_ended || self.blind || self.observer.is_closed())
            }
        }
    }

    /// Puts a Close with `code` at the next boundary and drops what follows.
    pub(super) fn stop(&mut self, code: u16) {
        if self.state == State::Passing && !self.shut {
            self.state = State::Stopping(code);
        }
    }

    /// Takes `bytes` that were read elsewhere, before anything is read here.
    ///
    /// # Errors
    /// What they break.
    pub(super) fn seed(&mut self, bytes: &[u8], passed: &Passed) -> Result<(), Trouble> {
        let (pass, offence) = self.take_in(bytes, passed);
        self.pending.extend_from_slice(bytes.get(..pass).unwrap_or_default());
        offence.map_or(Ok(()), |offence| Err(Trouble::Offence(self.sender, offence)))
    }

    /// Moves what can be moved; `moved` tells whether anything was.
    ///
    /// # Errors
    /// Trouble that ends the tunnel. After an offence the flow may be polled on, once stopped.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn Duplex,
        to: &mut dyn Duplex,
        passed: &Passed,
        moved: &mut bool,
    ) -> Result<(), Trouble> {
        for _ in 0..ROUNDS {
            if self.poll_pending(cx, to, moved)?.is_pending() {
                return Ok(());
            }
            if let State::Stopping(code) = self.state
                && (self.observer.is_between_frames() || self.read_ended)
            {
                self.put_close(code);
                continue;
            }
            if self.read_ended {
                return self.poll_end(cx, to);
            }
            if !self.poll_read(cx, from, to, passed, moved)? {
                return self.poll_flush(cx, to);
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Writes what is kept.
    fn poll_pending(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut dyn Duplex,
        moved: &mut bool,
    ) -> Result<Poll<()>, Trouble> {
        while let Some(rest) = self.pending.get(self.written..)
            && !rest.is_empty()
        {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(count @ 1..)) => {
                    self.written = self.written.saturating_add(count);
                    self.dirty = true;
                    *moved = true;
                }
                Poll::Ready(_) => return Err(Trouble::Gone(self.sender.other())),
                Poll::Pending => {
                    self.poll_flush(cx, to)?;
                    return Ok(Poll::Pending);
                }
            }
        }
        // Gives the buffer back: an idle tunnel holds none.
        (self.pending, self.written) = (Vec::new(), 0);
        Ok(Poll::Ready(()))
    }

    /// Reads once; whether there was anything.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn Duplex,
        to: &mut dyn Duplex,
        passed: &Passed,
        moved: &mut bool,
    ) -> Result<bool, Trouble> {
        let mut buffer = BUFFER.take();
        buffer.resize(SCRATCH, 0);
        let result = self.read_into(&mut buffer, cx, from, to, passed, moved);
        BUFFER.set(buffer);
        result
    }

    fn read_into(
        &mut self,
        buffer: &mut [u8],
        cx: &mut Context<'_>,
        from: &mut dyn Duplex,
        to: &mut dyn Duplex,
        passed: &Passed,
        moved: &mut bool,
    ) -> Result<bool, Trouble> {
        let mut read = ReadBuf::new(buffer);
        read.put_slice(self.held.get(..self.held_length).unwrap_or_default());
        match Pin::new(from).poll_read(cx, &mut read) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(_)) => return Err(Trouble::Gone(self.sender)),
            Poll::Ready(Ok(())) => {}
        }
        let bytes = read.filled();
        if bytes.len() == self.held_length {
            self.read_ended = true;
            if self.state == State::Passing {
                // The beginning of a header is all there will be: it passes as it came.
                self.pending.extend_from_slice(bytes);
            }
            self.held_length = 0;
            return Ok(true);
        }
        *moved = true;
        let (pass, offence) = self.take_in(bytes, passed);
        let mut pass = bytes.get(..pass).unwrap_or_default();
        if self.pending.is_empty() {
            // Mostly the receiver takes it at once, and nothing is kept.
            match Pin::new(&mut *to).poll_write(cx, pass) {
                _ if pass.is_empty() => {}
                Poll::Ready(Ok(count @ 1..)) => {
                    self.dirty = true;
                    pass = pass.get(count..).unwrap_or_default();
                }
                Poll::Ready(_) => return Err(Trouble::Gone(self.sender.other())),
                Poll::Pending => {}
            }
        }
        self.pending.extend_from_slice(pass);
        offence.map_or(Ok(true), |offence| Err(Trouble::Offence(self.sender, offence)))
    }

    /// Shows `bytes` to the observer and holds back what must be: how many pass now, and what they break.
    fn take_in(&mut self, bytes: &[u8], passed: &Passed) -> (usize, Option<Offence>) {
        self.held_length = 0;
        if self.blind {
            let pass = if self.broken && self.state == State::Passing { bytes.len() } else { 0 };
            passed.add(pass, 0, 0);
            return (pass, None);
        }
        let until = if matches!(self.state, State::Stopping(_)) { Until::Boundary } else { Until::End };
        let seen = self.observer.look(bytes, until);
        let (pass, rest) = bytes.split_at_checked(seen.passed).unwrap_or((bytes, &[]));
        self.blind = seen.offence.is_some();
        match self.state {
            State::Dropping => {
                self.hold(rest);
                (0, None)
            }
            State::Passing => {
                // Whoever receives broken framing judges it, once it has answered what came before.
                self.broken = matches!(seen.offence, Some(Offence::Malformed(_)));
                let pass = if self.broken { bytes.len() } else { seen.passed };
                passed.add(pass, seen.frames, seen.messages);
                self.hold(rest);
                (pass, seen.offence)
            }
            State::Stopping(code) => {
                passed.add(seen.passed, seen.frames, seen.messages);
                if !self.observer.is_between_frames() {
                    return (seen.passed, None);
                }
                self.pending.extend_from_slice(pass);
                self.put_close(code);
                self.take_in(rest, passed)
            }
        }
    }

    fn hold(&mut self, rest: &[u8]) {
        if !self.blind
            && let Some(held) = self.held.get_mut(..rest.len())
        {
            held.copy_from_slice(rest);
            self.held_length = rest.len();
        }
    }

    /// Puts our Close, unless the sender's own has passed: there is one at most (RFC 6455 §5.5.1). Nor behind broken
    /// framing, where nobody knows what it would become.
    fn put_close(&mut self, code: u16) {
        if !self.observer.is_closed() && !self.read_ended && !self.broken {
            self.pending.extend_from_slice(&observer::close(self.sender, code));
        }
        self.state = State::Dropping;
    }

    /// Passes the end of the sender's half on.
    fn poll_end(&mut self, cx: &mut Context<'_>, to: &mut dyn Duplex) -> Result<(), Trouble> {
        if self.state == State::Dropping {
            return self.poll_flush(cx, to);
        }
        if !self.shut {
            match Pin::new(to).poll_shutdown(cx) {
                Poll::Ready(Ok(())) => (self.shut, self.dirty) = (true, false),
                Poll::Ready(Err(_)) => return Err(Trouble::Gone(self.sender.other())),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut dyn Duplex) -> Result<(), Trouble> {
        if self.dirty {
            match Pin::new(to).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(_)) => return Err(Trouble::Gone(self.sender.other())),
                Poll::Pending => {}
            }
        }
        Ok(())
    }
}
