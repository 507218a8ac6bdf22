//! Waiting: `poll_oneoff`.
//!
//! Files and streams are always ready, so that only clocks can make a program wait: if nothing is ready, the
//! machine sleeps once, until the earliest of them.

use crate::{Errno, Guest, Host, Stream, Wasi, abi::clock, descriptor::Descriptor, guest::field};

/// The size of a `subscription`.
const SUBSCRIPTION: usize = 48;
/// The size of an `event`.
const EVENT: usize = 32;

/// `subclockflags`: the time is a point, not a span.
const ABSOLUTE: u16 = 1;
/// `eventrwflags`: there is nothing after these bytes.
const HANGUP: u16 = 1;

/// What a program waits for.
enum Awaited {
    /// A point of the monotonic clock.
    Deadline(u64),
    /// Bytes to read, or room to write, that are there already.
    Ready { hangup: bool, kind: u8 },
}

/// When a call began, by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    monotonic: u64,
    realtime: u64,
}

/// A call that has begun and waits.
#[derive(Clone, Copy)]
pub(crate) struct Polling {
    start: Start,
    /// When something will have happened, by the monotonic clock.
    earliest: u64,
}

impl Polling {
    /// When to end the call, if that is not now.
    pub(crate) fn until(self) -> Option<u64> {
        (self.earliest > self.start.monotonic).then_some(self.earliest)
    }
}

impl<H: Host> Wasi<H> {
    pub(crate) fn poll_oneoff(
        &mut self,
        memory: &mut Guest<'_>,
        subscriptions: u32,
        events: u32,
        count: u32,
        happened: u32,
    ) -> Result<(), Errno> {
        let polling = self.begin_poll(memory, subscriptions, events, count, happened)?;
        if let Some(deadline) = polling.until() {
            self.host.sleep_until(deadline);
        }
        self.end_poll(memory, polling, subscriptions, events, count, happened)
    }

    /// All of a call until it waits.
    pub(crate) fn begin_poll(
        &mut self,
        memory: &Guest<'_>,
        subscriptions: u32,
        events: u32,
        count: u32,
        happened: u32,
    ) -> Result<Polling, Errno> {
        if count == 0 {
            return Err(Errno::Invalid);
        }
        memory.bytes(happened, 4)?;
        memory.records::<EVENT>(events, count)?;
        let start = Start { monotonic: self.host.monotonic_ns(), realtime: self.host.realtime_ns() };

        let mut earliest = u64::MAX;
        for subscription in memory.records::<SUBSCRIPTION>(subscriptions, count)? {
            match self.awaited(subscription, start)? {
                Awaited::Deadline(deadline) => earliest = earliest.min(deadline),
                Awaited::Ready { .. } => earliest = 0,
            }
        }
        Ok(Polling { start, earliest })
    }

    /// All of a call after it has waited.
    pub(crate) fn end_poll(
        &mut self,
        memory: &mut Guest<'_>,
        Polling { start, earliest }: Polling,
        subscriptions: u32,
        events: u32,
        count: u32,
        happened: u32,
    ) -> Result<(), Errno> {
        // Woken too early or with a clock that is not read anew, the earliest has happened nevertheless.
        let now = self.host.monotonic_ns().max(earliest);

        let mut number = 0;
        for index in 0..count {
            // Events may be laid over subscriptions; then what a program reads is its own affair.
            let subscription = memory.record::<SUBSCRIPTION>(subscriptions, index)?;
            let (kind, hangup) = match self.awaited(&subscription, start)? {
                Awaited::Deadline(deadline) if deadline > now => continue,
                Awaited::Deadline(_) => (0, None),
                Awaited::Ready { hangup, kind } => (kind, Some(hangup)),
            };
            let place = events.checked_add(number * 32).ok_or(Errno::Fault)?;
            memory.write(place, &event(field(&subscription, 0), kind, hangup))?;
            number += 1;
        }
        memory.write_u32(happened, number)
    }

    /// Reads a `subscription`: `u64` user data, `u8` kind at 8; for a clock `u32` which at 16, `u64` time at 24,
    /// `u64` precision, `u16` flags at 40; for a descriptor `u32` which at 16.
    fn awaited(&self, subscription: &[u8; SUBSCRIPTION], start: Start) -> Result<Awaited, Errno> {
        let id = u32::from_le_bytes(field(subscription, 16));
        match subscription[8] {
            0 => {
                let time = u64::from_le_bytes(field(subscription, 24));
                let now = match (id, u16::from_le_bytes(field(subscription, 40))) {
                    (clock::MONOTONIC, ABSOLUTE) => return Ok(Awaited::Deadline(time)),
                    (clock::REALTIME, ABSOLUTE) => start.realtime,
                    (clock::MONOTONIC | clock::REALTIME, 0) => 0,
                    _ => return Err(Errno::Invalid),
                };
                Ok(Awaited::Deadline(start.monotonic.saturating_add(time.saturating_sub(now))))
            }
            1 => match self.descriptors.get(id)? {
                Descriptor::Stream(Stream::Input, _) => Ok(Awaited::Ready { hangup: false, kind: 1 }),
                Descriptor::File(position) => {
                    let size = u64::try_from(self.contents(position)?.len()).unwrap_or(u64::MAX);
                    Ok(Awaited::Ready { hangup: position.offset >= size, kind: 1 })
                }
                _ => Err(Errno::BadDescriptor),
            },
            2 => match self.descriptors.get(id)? {
                Descriptor::Stream(Stream::Output | Stream::Error, _) | Descriptor::File(_) => {
                    Ok(Awaited::Ready { hangup: false, kind: 2 })
                }
                _ => Err(Errno::BadDescriptor),
            },
            _ => Err(Errno::Invalid),
        }
    }
}

/// An `event`: `u64` user data, `u16` error at 8, `u8` kind at 10, `u64` bytes at 16, `u16` flags at 24. How
/// many bytes are ready is not said beyond that there is one, as in Wasmtime.
fn event(user_data: [u8; 8], kind: u8, hangup: Option<bool>) -> [u8; EVENT] {
    let mut event = [0; EVENT];
    event[0..8].copy_from_slice(&user_data);
    event[10] = kind;
    if let Some(hangup) = hangup {
        event[16] = 1;
        let flags = if hangup { HANGUP } else { 0 };
        event[24..26].copy_from_slice(&flags.to_le_bytes());
    }
    event
}
