//! A software MMU over host memory, so that the same core runs in an ordinary
//! test process, with either entry format, on several CPUs that are as hostile
//! as the manuals allow.
//!
//! ```text
//!   host allocation = physical memory, from PHYSICAL_BASE up
//!   +-------+-------+--------------------------------+---------+
//!   | root0 | root1 |  free: the test's arena        | foreign |
//!   +-------+-------+--------------------------------+---------+
//!        ^                        ^
//!        |  walks, A and D bits   |  bytes
//!   +----+------------------------+----+
//!   | CPU 0: translations, pointers    |  ... CPU n     one lock for all
//!   +----------------------------------+
//! ```
//!
//! It decodes entries by itself, from the manuals and not through
//! [`Format`](crate::Format), so that a wrong encoder is noticed; and it reads
//! the operands of invalidations as the instructions do. At every call some
//! CPUs walk to addresses that nobody asked for, and what they find stays
//! cached until an instruction drops it. Where that lets a program see what it
//! must not, or breaks another rule, there is a [`Violation`], which panics on
//! the spot unless they are [collected](Emulated::collect_violations).
//!
//! A test's threads are CPUs: see [`on_cpu`].
//!
//! Stores to tables are not seen as they happen. An access through a cached
//! translation is judged by the tables at that moment, so a test must not let
//! one CPU use a page while another is about to take it away, unless it says
//! that they are [`racing`](Emulated::racing).

#![expect(clippy::cast_possible_truncation, reason = "usize is 64 bits on every supported target")]

mod aarch64;
mod access;
mod audit;
mod builder;
mod cache;
mod check;
mod descriptor;
mod instructions;
mod memory;
mod state;
mod violation;
mod walk;
mod x86_64;

use core::{
    cell::Cell,
    fmt,
    marker::PhantomData,
    ops::Range,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    vec::Vec,
};

pub use access::{AccessFault, FaultKind, Handler};
pub use descriptor::{Descriptor, Leaf, Mmu};
pub use instructions::Instructions;
pub use memory::PHYSICAL_BASE;
pub use state::Invalidations;
pub use violation::Violation;

use builder::Settings;
use memory::Memory;
use state::State;

use crate::{Arch, CpuError, Invalidation, PAGE_SIZE, PhysAddr, VirtAddr};

/// A machine in software with entries of format `F`.
pub struct Emulated<F> {
    memory: Memory,
    settings: Settings,
    state: Mutex<State>,
    handler: Mutex<Option<Arc<Handler<F>>>>,
    racing: AtomicBool,
    format: PhantomData<fn() -> F>,
}

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Runs `work` as CPU `cpu` of whatever machines it uses. Without, a thread is
/// CPU 0.
pub fn on_cpu<T>(cpu: usize, work: impl FnOnce() -> T) -> T {
    struct Back(usize);
    impl Drop for Back {
        fn drop(&mut self) {
            CPU.set(self.0);
        }
    }
    let _back = Back(CPU.replace(cpu));
    work()
}

impl<F: Mmu> Emulated<F> {
    /// Runs `work` as CPU `cpu`.
    ///
    /// # Panics
    ///
    /// When the machine has no such CPU.
    pub fn on<T>(&self, cpu: usize, work: impl FnOnce() -> T) -> T {
        assert!(cpu < self.settings.cpus, "there is no CPU {cpu}, the machine has {}", self.settings.cpus);
        on_cpu(cpu, work)
    }

    /// Physical memory that neither roots nor foreign mappings occupy.
    #[must_use]
    pub fn free_memory(&self) -> Range<PhysAddr> {
        PHYSICAL_BASE.offset(2 * PAGE_SIZE)..self.memory.end().offset(0)
    }

    /// What was found wrong so far. Only with
    /// [`collect_violations`](Self::collect_violations) more than one.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Takes what was found wrong so far.
    #[must_use]
    pub fn take_violations(&self) -> Vec<Violation> {
        core::mem::take(&mut self.lock().violations)
    }

    /// Checks everything, as [`audit`](Self::audit) does.
    ///
    /// # Panics
    ///
    /// When something is or was wrong; lists it.
    pub fn assert_sound(&self) {
        self.audit();
        let found = self.violations();
        let lines: Vec<_> = found.iter().map(std::string::ToString::to_string).collect();
        assert!(found.is_empty(), "{} violations:\n{}", found.len(), lines.join("\n"));
    }

    /// How often CPUs were interrupted to invalidate: one per CPU and time.
    #[must_use]
    pub fn interrupts(&self) -> usize {
        self.lock().interrupts
    }

    /// How many invalidations were asked for that were not nothing.
    #[must_use]
    pub fn invalidations(&self) -> Invalidations {
        self.lock().invalidations
    }

    /// How many translations CPU `cpu` has cached.
    #[must_use]
    pub fn cached(&self, cpu: usize) -> usize {
        self.lock().cpus[cpu].translations.len()
    }

    /// Lets CPUs walk where they like, and looks at what they have cached.
    pub fn speculate(&self) {
        self.with(|state| self.hook(state, 8));
    }

    /// Runs `work`, in which accesses race with edits that take away what they
    /// use: until such an edit is complete a CPU may use what it has cached, and
    /// no access can be blamed for it.
    pub fn racing<T>(&self, work: impl FnOnce() -> T) -> T {
        self.racing.store(true, Ordering::Relaxed);
        let done = work();
        self.racing.store(false, Ordering::Relaxed);
        done
    }

    /// Answers faults: see [`Handler`].
    pub fn set_handler(&self, handler: std::boxed::Box<Handler<F>>) {
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler.into());
    }

    /// Runs `edit` on the state of CPUs, and then reports what it found.
    fn with<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = edit(&mut state);
        let first = if self.settings.collect { None } else { state.violations.first().copied() };
        drop(state);
        if let Some(violation) = first
            && !std::thread::panicking()
        {
            panic!("{}: {violation}", F::NAME);
        }
        done
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic leaves nothing half done that a later check would trust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: physical memory is one allocation, so `physical` is linear over it;
// every walk loads what was stored before, as the lock orders both; and the
// instructions that `F::invalidate` runs drop what they name from the caches
// of the CPUs that they reach before it returns; `on` bounds CPU numbers, and
// that threads do not share one is the test's business.
unsafe impl<F: Mmu> Arch for Emulated<F> {
    type Format = F;

    const ALIAS_IS_MAPPED: bool = false;

    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        self.memory.physical(address)
    }

    fn root(&self, address: VirtAddr) -> PhysAddr {
        if F::SPLIT_ROOTS && address.0 >> 63 == 0 { PHYSICAL_BASE } else { PHYSICAL_BASE.offset(PAGE_SIZE) }
    }

    fn live_root(&self, address: VirtAddr) -> PhysAddr {
        let cpu = self.current_cpu();
        self.root_of(&self.lock(), cpu, address)
    }

    fn levels(&self) -> u8 {
        self.settings.levels
    }

    fn half_bits(&self) -> u32 {
        11 + 9 * u32::from(self.settings.levels) + u32::from(F::SPLIT_ROOTS)
    }

    fn hardware_dirty(&self) -> bool {
        self.settings.hardware_dirty
    }

    fn cpus(&self) -> usize {
        self.settings.cpus
    }

    fn current_cpu(&self) -> usize {
        let (cpu, cpus) = (CPU.get(), self.settings.cpus);
        assert!(cpu < cpus, "this thread runs as CPU {cpu}, the machine has {cpus}; see with_cpus");
        cpu
    }

    fn publish(&self) {
        self.with(|state| {
            self.check_caches(state);
            self.hook(state, 1);
        });
    }

    fn invalidate_local(&self, what: Invalidation) {
        self.invalidate(what, false);
    }

    fn invalidate_everywhere(&self, what: Invalidation) {
        self.invalidate(what, true);
    }

    fn synchronise_code(&self, _start: VirtAddr, _bytes: usize) {
        self.with(|state| self.hook(state, 1));
    }

    fn check(&self, _window: VirtAddr) -> Result<(), CpuError> {
        Ok(())
    }

    unsafe fn read_bytes(&self, address: VirtAddr, into: NonNull<u8>, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: the caller says that so many bytes can be written there.
        let into = unsafe { core::slice::from_raw_parts_mut(into.as_ptr(), len) };
        self.read(address, into).map_err(|fault| fault.address)
    }

    unsafe fn write_bytes(&self, address: VirtAddr, from: NonNull<u8>, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: the caller says that so many bytes can be read there.
        let from = unsafe { core::slice::from_raw_parts(from.as_ptr(), len) };
        self.write(address, from).map_err(|fault| fault.address)
    }

    unsafe fn fill_bytes(&self, address: VirtAddr, byte: u8, len: usize) -> Result<(), VirtAddr> {
        self.write(address, &std::vec![byte; len]).map_err(|fault| fault.address)
    }

    unsafe fn move_bytes(&self, from: VirtAddr, to: VirtAddr, len: usize) -> Result<(), VirtAddr> {
        let mut bytes = std::vec![0; len];
        self.read(from, &mut bytes).map_err(|fault| fault.address)?;
        // One that faulted half way would be repeated with what it had stored.
        for offset in (0..len).step_by(PAGE_SIZE).chain(len.checked_sub(1)) {
            let mut byte = [0];
            self.read(to.offset(offset), &mut byte).map_err(|fault| fault.address)?;
            self.write(to.offset(offset), &byte).map_err(|fault| fault.address)?;
        }
        self.write(to, &bytes).map_err(|fault| fault.address)
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        self.with(|state| self.hook(state, 1));
        // SAFETY: `physical` gives writable memory of a page, and the caller
        // says that nobody else uses it now.
        unsafe { self.physical(frame).write_bytes(0, PAGE_SIZE) };
    }

    unsafe fn copy_frame(&self, from: PhysAddr, to: PhysAddr) {
        self.with(|state| self.hook(state, 1));
        let (from, to) = (self.physical(from), self.physical(to));
        // SAFETY: both are pages of the allocation, and the caller says that
        // they do not overlap and that nobody else is at them.
        unsafe { from.copy_to_nonoverlapping(to, PAGE_SIZE) };
    }
}

impl<F> fmt::Debug for Emulated<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulated").field("settings", &self.settings).finish_non_exhaustive()
    }
}
