//! Tables edited by hand.

use core::{
    cell::Cell,
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
};

use allotment_arch::{
    Access, Arch, Invalidation, PAGE_SIZE, Pages, PhysAddr, Table, VirtAddr,
    emulated::{Emulated, Mmu, Violation},
    index,
};

/// Where tests map their first page: in the upper half, aligned to 2 MiB.
pub(crate) const WINDOW: VirtAddr = VirtAddr(0xffff_9000_0040_0000);

/// Runs a generic test for both formats.
#[macro_export]
macro_rules! for_both_formats {
    ($($test:ident)*) => {
        mod x86_64 { $( #[test] fn $test() { super::$test::<allotment_arch::X86_64>(); } )* }
        mod aarch64 { $( #[test] fn $test() { super::$test::<allotment_arch::Aarch64>(); } )* }
    };
}

/// A machine, and the next frame that nobody has.
pub(crate) struct Tables<F> {
    machine: Emulated<F>,
    next: Cell<PhysAddr>,
}

impl<F> Deref for Tables<F> {
    type Target = Emulated<F>;

    fn deref(&self) -> &Emulated<F> {
        &self.machine
    }
}

/// Page `nth` of the window.
pub(crate) fn page(nth: usize) -> VirtAddr {
    WINDOW.offset(nth * PAGE_SIZE)
}

/// Its translation, to be invalidated.
pub(crate) fn leaf(address: VirtAddr) -> Invalidation {
    Invalidation::leaves(Pages { start: address, count: 1 })
}

/// The tables above it as well.
pub(crate) fn tables(address: VirtAddr) -> Invalidation {
    Invalidation::tables(Pages { start: address, count: 1 })
}

impl<F: Mmu> Tables<F> {
    pub(crate) fn new(machine: Emulated<F>) -> Self {
        let next = Cell::new(machine.free_memory().start);
        Self { machine, next }
    }

    /// A small machine that collects.
    pub(crate) fn collecting(cpus: usize) -> Self {
        Self::new(Emulated::new(64 * PAGE_SIZE).with_cpus(cpus).collect_violations())
    }

    /// A frame of zeros.
    pub(crate) fn frame(&self) -> PhysAddr {
        let frame = self.next.get();
        assert!(frame < self.machine.free_memory().end, "the test needs a larger machine");
        self.next.set(frame.offset(PAGE_SIZE));
        frame
    }

    /// A frame that is aligned to 16 pages, and the 15 after it.
    pub(crate) fn run(&self) -> PhysAddr {
        let align = 16 * PAGE_SIZE as u64;
        let first = PhysAddr(self.next.get().0.next_multiple_of(align));
        self.next.set(first.offset(16 * PAGE_SIZE));
        assert!(self.next.get() <= self.machine.free_memory().end, "the test needs a larger machine");
        first
    }

    /// The entry for `address` in its table of `level`; makes missing tables.
    pub(crate) fn entry(&self, address: VirtAddr, level: u8) -> &AtomicU64 {
        let mut table = self.machine.root(address);
        for above in (level + 1..self.machine.levels()).rev() {
            let entry = self.slot(table, index(address, above));
            if entry.load(Ordering::Relaxed) & F::PRESENT == 0 {
                entry.store(F::table(self.frame()), Ordering::Relaxed);
            }
            table = PhysAddr(entry.load(Ordering::Relaxed) & F::FRAME);
        }
        self.slot(table, index(address, level))
    }

    pub(crate) fn slot(&self, table: PhysAddr, nth: usize) -> &AtomicU64 {
        // SAFETY: memory lives as long as the machine, which `self` has, and
        // these tests access tables only like this.
        let table = unsafe { Table::new(&self.machine, table, 1) };
        &table.entries()[nth]
    }

    pub(crate) fn set(&self, address: VirtAddr, entry: u64) {
        self.entry(address, 0).store(entry, Ordering::Release);
    }

    pub(crate) fn get(&self, address: VirtAddr) -> u64 {
        self.entry(address, 0).load(Ordering::Acquire)
    }

    /// Maps a page to a frame, from not present.
    pub(crate) fn map_to(&self, address: VirtAddr, frame: PhysAddr, access: Access, written: bool) {
        self.set(address, F::present(frame, access, written));
        self.machine.publish();
    }

    /// Maps a page to a fresh frame, readable and writable.
    pub(crate) fn map(&self, address: VirtAddr) -> PhysAddr {
        let frame = self.frame();
        self.map_to(address, frame, Access::ReadWrite, false);
        frame
    }

    /// Loads the byte there.
    pub(crate) fn load(&self, address: VirtAddr) -> Option<u8> {
        let mut byte = [0];
        self.machine.read(address, &mut byte).ok().map(|()| byte[0])
    }

    /// Stores a byte there; whether that was possible.
    pub(crate) fn store(&self, address: VirtAddr, byte: u8) -> bool {
        self.machine.write(address, &[byte]).is_ok()
    }

    /// Uses a page on a CPU until the CPU has it cached.
    pub(crate) fn warm(&self, cpu: usize, address: VirtAddr) {
        self.machine.on(cpu, || (0..32).for_each(|_| self.machine.read(address, &mut [0]).unwrap_or(())));
    }

    /// Whether something like that was found, also by looking at everything.
    pub(crate) fn found(&self, like: impl Fn(&Violation) -> bool) -> bool {
        self.machine.audit();
        self.machine.violations().iter().any(like)
    }
}

/// Whether a violation is of this kind.
#[macro_export]
macro_rules! is {
    ($kind:ident) => {
        |violation: &allotment_arch::emulated::Violation| {
            matches!(violation, allotment_arch::emulated::Violation::$kind { .. })
        }
    };
}
