//! Machines of the host: the emulated MMU, of every kind.

use core::{cell::Cell, ops::Range};

use allotment::arch::{
    PhysAddr, VirtAddr,
    emulated::{Emulated, Mmu, on_cpu},
};

use super::{Fault, TestArch};

/// Runs a generic case on every machine of this build.
#[macro_export]
macro_rules! on_every_machine {
    ($($case:ident)::+) => {{
        use allotment::arch::{Aarch64, X86_64, emulated::Emulated};
        use $crate::common::{Kind, as_kind};
        as_kind(Kind::Usual, $($case)::+::<Emulated<X86_64>>);
        as_kind(Kind::Other, $($case)::+::<Emulated<X86_64>>);
        as_kind(Kind::Usual, $($case)::+::<Emulated<Aarch64>>);
        as_kind(Kind::Other, $($case)::+::<Emulated<Aarch64>>);
    }};
}

/// What CPUs of an architecture may have, and may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// x86_64 with 4 levels of tables, aarch64 with FEAT_HAFDBS.
    Usual,
    /// x86_64 with 5 levels, aarch64 with 3 (addresses of 39 bits), without FEAT_HAFDBS but with
    /// FEAT_TLBIRANGE.
    Other,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Usual) };
}

/// Runs `case` with machines of this kind.
pub fn as_kind(kind: Kind, case: impl FnOnce()) {
    KIND.set(kind);
    case();
}

const CPUS: usize = 4;

thread_local! {
    static SETUP: Cell<(usize, u64)> = const { Cell::new((CPUS, 1)) };
}

/// Runs `case` with machines of so many CPUs, whose choices follow from `seed`.
pub fn set_up<T>(cpus: usize, seed: u64, case: impl FnOnce() -> T) -> T {
    let before = SETUP.replace((cpus, seed));
    let done = case();
    SETUP.set(before);
    done
}

/// Runs `work` for each number below `workers`, all at once, each on a CPU of
/// its own.
pub fn together(workers: usize, work: impl Fn(usize) + Sync) {
    assert!(workers <= CPUS, "{workers} workers need as many CPUs");
    let kind = KIND.get();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let work = &work;
            scope.spawn(move || as_kind(kind, || on_cpu(worker, || work(worker))));
        }
    });
}

/// How many CPUs there are.
pub fn cpus() -> usize {
    CPUS
}

impl<F: Mmu> TestArch for Emulated<F> {
    fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
        let (cpus, seed) = SETUP.get();
        let machine = Self::new(arena_bytes + 2 * super::PAGE).with_cpus(cpus).with_seed(seed);
        let levels = match KIND.get() {
            Kind::Usual => 4,
            Kind::Other if F::LEVELS.contains(&5) => 5,
            Kind::Other => 3,
        };
        let machine = machine.with_levels(levels);
        let machine = if levels == 3 { machine.without_hardware_dirty().with_ranges(true) } else { machine };
        let window = match levels {
            // Not canonical with 4 levels.
            5 => VirtAddr(0xff20_0000_0000_0000)..VirtAddr(0xff20_0800_0000_0000),
            // All that there is but 16 GiB at both ends.
            3 => VirtAddr(0xffff_ff84_0000_0000)..VirtAddr(0xffff_fffc_0000_0000),
            _ => VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000),
        };
        machine.guard_window(window.clone());
        let arena = machine.free_memory();
        super::litter(&machine, &arena);
        (machine, window, arena)
    }

    fn load(&self, address: VirtAddr) -> Result<u8, Fault> {
        let mut byte = [0];
        self.read(address, &mut byte).map_err(|fault| Fault(fault.address))?;
        Ok(byte[0])
    }

    fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
        self.write(address, &[byte]).map_err(|fault| Fault(fault.address))
    }

    fn on_cpu(&self, cpu: usize, work: impl Fn() + Sync) {
        self.on(cpu, work);
    }

    fn with_root(&self, root: PhysAddr, work: impl FnOnce()) {
        self.load_root(Some(root));
        work();
        self.load_root(None);
    }

    fn racing(&self, work: impl Fn() + Sync) {
        Self::racing(self, work);
    }

    fn use_window(&self, window: Range<VirtAddr>) {
        self.guard_window(window);
    }

    fn interrupts(&self) -> u64 {
        Self::interrupts(self) as u64
    }

    fn audit(&self) {
        self.assert_sound();
    }
}
