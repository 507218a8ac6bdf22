//! Loads, stores and fetches as code on the machine does them.

use core::{fmt, sync::atomic::Ordering};
use std::sync::PoisonError;

use super::{
    Descriptor, Emulated, Mmu, Violation,
    cache::{Key, Translation},
    state::State,
    walk::{Found, exchange, frame_of},
};
use crate::{Arch, PAGE_SIZE, PhysAddr, VirtAddr};

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        })
    }
}

/// An access that the emulated MMU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessFault {
    /// The address of the first byte that could not be accessed.
    pub address: VirtAddr,
    /// The access.
    pub kind: FaultKind,
}

impl fmt::Display for AccessFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} faulted", self.kind, self.address)
    }
}

impl core::error::Error for AccessFault {}

/// Answers a fault: `true` repeats the access. It runs as the CPU that faulted,
/// and may do there whatever a fault handler does.
pub type Handler<F> = dyn Fn(&Emulated<F>, AccessFault) -> bool + Send + Sync;

/// How often one access is repeated before its fault is the answer.
const REPEATS: usize = 8;

/// Bytes on their way.
enum Move<'a> {
    Load(&'a mut [u8]),
    Store(&'a [u8]),
}

impl<F: Mmu> Emulated<F> {
    /// Loads `into.len()` bytes as code running on this machine would.
    ///
    /// # Errors
    ///
    /// The first byte that does not translate, also after the handler's
    /// answers; `into` is then partly filled.
    pub fn read(&self, address: VirtAddr, into: &mut [u8]) -> Result<(), AccessFault> {
        self.read_with(address, into, |fault| self.answer(fault))
    }

    /// Stores `from` as code running on this machine would.
    ///
    /// # Errors
    ///
    /// The first byte that does not translate writable, also after the
    /// handler's answers; those before it are written.
    pub fn write(&self, address: VirtAddr, from: &[u8]) -> Result<(), AccessFault> {
        self.write_with(address, from, |fault| self.answer(fault))
    }

    /// Fetches a byte as an instruction.
    ///
    /// # Errors
    ///
    /// When it does not translate executable, also after the handler's answers.
    pub fn fetch(&self, address: VirtAddr) -> Result<u8, AccessFault> {
        let mut byte = [0];
        let mut answer = |fault| self.answer(fault);
        self.access(address, FaultKind::Execute, Move::Load(&mut byte), &mut answer)?;
        Ok(byte[0])
    }

    /// [`read`](Self::read) with a handler of its own.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn read_with(
        &self,
        address: VirtAddr,
        into: &mut [u8],
        mut handler: impl FnMut(AccessFault) -> bool,
    ) -> Result<(), AccessFault> {
        self.access(address, FaultKind::Read, Move::Load(into), &mut handler)
    }

    /// [`write`](Self::write) with a handler of its own.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write_with(
        &self,
        address: VirtAddr,
        from: &[u8],
        mut handler: impl FnMut(AccessFault) -> bool,
    ) -> Result<(), AccessFault> {
        self.access(address, FaultKind::Write, Move::Store(from), &mut handler)
    }

    fn answer(&self, fault: AccessFault) -> bool {
        let handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner).clone();
        handler.is_some_and(|handler| handler(self, fault))
    }

    fn access(
        &self,
        address: VirtAddr,
        kind: FaultKind,
        mut bytes: Move<'_>,
        handler: &mut dyn FnMut(AccessFault) -> bool,
    ) -> Result<(), AccessFault> {
        let total = match &bytes {
            Move::Load(into) => into.len(),
            Move::Store(from) => from.len(),
        };
        let (mut done, mut repeats) = (0, 0);
        while done < total {
            let at = address.offset(done);
            let within = (at.0 % PAGE_SIZE as u64) as usize;
            let count = (PAGE_SIZE - within).min(total - done);
            // The CPU is asked for each time: a handler may have moved the work.
            let cpu = self.current_cpu();
            let moved = self.with(|state| {
                let physical = self.translate(state, cpu, at, kind)?;
                match &mut bytes {
                    Move::Load(into) => self.load_bytes(physical, &mut into[done..done + count]),
                    Move::Store(from) => self.store_bytes(physical, &from[done..done + count]),
                }
                if state.random.eighths(2) {
                    self.hook(state, 1);
                }
                Some(())
            });
            if moved.is_some() {
                (done, repeats) = (done + count, 0);
                continue;
            }
            // The lock is free here: the handler edits tables and invalidates.
            let fault = AccessFault { address: at, kind };
            if repeats == REPEATS || !handler(fault) {
                return Err(fault);
            }
            repeats += 1;
        }
        Ok(())
    }

    /// Where one access goes on one CPU, with all that the CPU does on the way.
    fn translate(
        &self,
        state: &mut State,
        cpu: usize,
        address: VirtAddr,
        kind: FaultKind,
    ) -> Option<PhysAddr> {
        // An entry that others keep changing is walked to again and again.
        const ENOUGH: usize = 1000;
        for _ in 0..ENOUGH {
            let cached = self.cached_for(state, cpu, address, kind);
            let (key, translation, harm) = if let Some(cached) = cached {
                cached
            } else {
                state.learn(address);
                let Some(found) = self.walk(state, cpu, address) else {
                    self.refuse(state, cpu, address);
                    return None;
                };
                (found.key, found.translation, self.harm_of(cpu, &found, address, kind))
            };
            if !translation.allows(kind) {
                self.refuse(state, cpu, address);
                return None;
            }
            if kind == FaultKind::Write && !translation.dirty {
                match self.mark(state, cpu, address) {
                    Marked::Done(physical) => return Some(physical),
                    Marked::Refused => {
                        self.refuse(state, cpu, address);
                        return None;
                    }
                    Marked::Changed => continue,
                }
            }
            harm.into_iter().for_each(|violation| state.report(violation));
            return self.existing(frame_of(key, &translation, address));
        }
        None
    }

    /// The first write through a clean translation: the CPU walks again and
    /// updates the entry that it finds, if that is still the same.
    fn mark(&self, state: &mut State, cpu: usize, address: VirtAddr) -> Marked {
        let Some(found) = self.walk(state, cpu, address) else { return Marked::Refused };
        if !found.translation.writable {
            return Marked::Refused;
        }
        if !found.translation.dirty && !self.set_mark(state, &found) {
            return Marked::Changed;
        }
        let dirty = Translation { dirty: true, ..found.translation };
        let random = state.random.next();
        state.cpus[cpu].translations.insert(found.key, dirty, random);
        let marked = Found { translation: dirty, ..found };
        let harm = self.harm_of(cpu, &marked, address, FaultKind::Write);
        harm.into_iter().for_each(|violation| state.report(violation));
        self.existing(found.frame_of(address)).map_or(Marked::Refused, Marked::Done)
    }

    /// Marks the entry that a walk found, or any one of its run.
    fn set_mark(&self, state: &mut State, found: &Found) -> bool {
        let own = found.at / 8 % 16;
        let any = if found.run { state.random.below(16) as u64 } else { own };
        for nth in [any, own] {
            let at = (found.at & !(16 * 8 - 1)) + nth * 8;
            let Some(word) = self.memory.word(at) else { continue };
            let entry = word.load(Ordering::Acquire);
            let fits = if nth == own {
                entry == found.entry
            } else {
                matches!(F::descriptor(0, entry), Descriptor::Leaf(leaf) if leaf.run && leaf.markable)
            };
            if fits {
                return exchange(word, entry, F::dirtied(entry));
            }
        }
        false
    }

    /// A fault: what x86_64 forgets by it.
    fn refuse(&self, state: &mut State, cpu: usize, address: VirtAddr) {
        if F::FAULT_DROPS {
            let of_cpu = &mut state.cpus[cpu];
            F::SHIFTS.iter().for_each(|&shift| of_cpu.translations.remove(Key::new(address, shift)));
            of_cpu.pointers.retain(|key, _| !key.overlaps(address, 1));
        }
    }

    /// What one CPU has cached for an address and decides to use, with the rule
    /// that breaks: what does harm, if there is such; otherwise mostly
    /// anything, and now and then nothing, as if it had been evicted.
    fn cached_for(
        &self,
        state: &mut State,
        cpu: usize,
        address: VirtAddr,
        kind: FaultKind,
    ) -> Option<(Key, Translation, Option<Violation>)> {
        let mut found = None;
        for &shift in F::SHIFTS {
            let key = Key::new(address, shift);
            let Some(&cached) = state.cpus[cpu].translations.get(key) else { continue };
            let harm = self.harm(cpu, key, &cached, address, kind);
            if harm.is_some() {
                return Some((key, cached, harm));
            }
            if found.is_none() || state.random.eighths(4) {
                found = Some((key, cached, None));
            }
        }
        found.filter(|_| state.random.eighths(7))
    }

    /// The rule that a walk's result breaks if it came from the root's side by
    /// anything else than the tables' entries for this very page.
    fn harm_of(&self, cpu: usize, found: &Found, address: VirtAddr, kind: FaultKind) -> Option<Violation> {
        let direct = !found.by_cache && found.key.shift() != 16;
        if direct { None } else { self.harm(cpu, found.key, &found.translation, address, kind) }
    }

    /// The rule that an access through a cached translation breaks, by what the
    /// tables say now.
    fn harm(
        &self,
        cpu: usize,
        key: Key,
        cached: &Translation,
        address: VirtAddr,
        kind: FaultKind,
    ) -> Option<Violation> {
        if !cached.allows(kind) || kind == FaultKind::Write && !cached.dirty {
            return None;
        }
        if self.racing.load(Ordering::Relaxed) {
            return None;
        }
        let to = frame_of(key, cached, address);
        let frame = PhysAddr(to & !0xfff);
        let now = self.look(address).filter(|now| now.frame_of(address) == to);
        let marked = now.as_ref().is_some_and(|now| self.is_marked(now));
        let allowed = now.is_some_and(|now| {
            // A mark in one entry of a run makes all of it writable.
            now.translation.allows(kind) || kind == FaultKind::Write && now.run && marked
        });
        if !allowed {
            Some(Violation::StaleTranslation { cpu, address, frame, kind })
        } else if kind == FaultKind::Write && !marked {
            Some(Violation::LostDirtyBit { cpu, address, frame })
        } else {
            None
        }
    }

    /// Whether an entry, or one of its run, has the mark of a write.
    fn is_marked(&self, now: &Found) -> bool {
        let any = |entry| matches!(F::descriptor(0, entry), Descriptor::Leaf(leaf) if leaf.dirty && leaf.run);
        now.translation.dirty || now.run && self.run_of(now.at).any(|(_, entry, _)| any(entry))
    }

    fn existing(&self, physical: u64) -> Option<PhysAddr> {
        self.memory.number(physical).map(|_| PhysAddr(physical))
    }

    fn load_bytes(&self, physical: PhysAddr, into: &mut [u8]) {
        let mut at = physical.0;
        let mut rest = into;
        while let Some(word) = self.memory.word(at).filter(|_| !rest.is_empty()) {
            let skip = (at % 8) as usize;
            let count = (8 - skip).min(rest.len());
            let bytes = word.load(Ordering::Relaxed).to_le_bytes();
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&bytes[skip..skip + count]);
            (at, rest) = (at + count as u64, later);
        }
    }

    fn store_bytes(&self, physical: PhysAddr, from: &[u8]) {
        let mut at = physical.0;
        let mut rest = from;
        while let Some(word) = self.memory.word(at).filter(|_| !rest.is_empty()) {
            let skip = (at % 8) as usize;
            let count = (8 - skip).min(rest.len());
            let (now, later) = rest.split_at(count);
            let mut bytes = word.load(Ordering::Relaxed).to_le_bytes();
            bytes[skip..skip + count].copy_from_slice(now);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            (at, rest) = (at + count as u64, later);
        }
    }
}

/// What became of a first write.
enum Marked {
    Done(PhysAddr),
    Refused,
    Changed,
}
