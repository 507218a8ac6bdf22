//! Machines of the host: the emulated MMU.

use core::ops::Range;

use allotment::arch::{
    PhysAddr, VirtAddr,
    emulated::{Emulated, Mmu},
};

use super::{Fault, TestArch};

/// Runs a generic case on every machine of this build.
#[macro_export]
macro_rules! on_every_machine {
    ($case:ident) => {{
        use allotment::arch::{Aarch64, X86_64, emulated::Emulated};
        $case::<Emulated<X86_64>>();
        $case::<Emulated<Aarch64>>();
        $case::<$crate::common::NoDirtyState>();
    }};
}

fn window() -> Range<VirtAddr> {
    VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000)
}

impl<F: Mmu> TestArch for Emulated<F> {
    fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
        let machine = Self::new(arena_bytes + 2 * super::PAGE);
        let arena = machine.free_memory();
        (machine, window(), arena)
    }

    fn load(&self, address: VirtAddr) -> Result<u8, Fault> {
        let mut byte = [0];
        self.read(address, &mut byte).map_err(|fault| Fault(fault.address))?;
        Ok(byte[0])
    }

    fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
        self.write(address, &[byte]).map_err(|fault| Fault(fault.address))
    }
}

pub use no_dirty_state::NoDirtyState;

/// An aarch64 CPU without FEAT_HAFDBS.
mod no_dirty_state {
    use core::{ops::Range, ptr::NonNull};

    use allotment::arch::{Aarch64, Arch, CpuError, Pages, PhysAddr, VirtAddr, emulated::Emulated};

    use super::super::{Fault, TestArch};

    #[derive(Debug)]
    pub struct NoDirtyState(Emulated<Aarch64>);

    // SAFETY: everything is the emulated machine's.
    unsafe impl Arch for NoDirtyState {
        type Format = Aarch64;

        const ALIAS_IS_MAPPED: bool = false;

        fn physical(&self, address: PhysAddr) -> NonNull<u8> {
            self.0.physical(address)
        }

        fn root(&self, address: VirtAddr) -> PhysAddr {
            self.0.root(address)
        }

        fn levels(&self) -> u8 {
            self.0.levels()
        }

        fn hardware_dirty(&self) -> bool {
            self.0.hardware_dirty()
        }

        fn publish(&self) {
            self.0.publish();
        }

        fn invalidate(&self, pages: Pages) {
            self.0.invalidate(pages);
        }

        fn synchronise_code(&self, start: VirtAddr, bytes: usize) {
            self.0.synchronise_code(start, bytes);
        }

        fn check(&self) -> Result<(), CpuError> {
            self.0.check()
        }
    }

    impl TestArch for NoDirtyState {
        fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
            let (machine, window, arena) = Emulated::machine(arena_bytes);
            (Self(machine.without_hardware_dirty()), window, arena)
        }

        fn load(&self, address: VirtAddr) -> Result<u8, Fault> {
            self.0.load(address)
        }

        fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
            self.0.store(address, byte)
        }
    }
}
