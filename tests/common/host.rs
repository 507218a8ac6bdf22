//! Machines of the host: the emulated MMU.

use core::{ops::Range, ptr::NonNull};
use std::{collections::BTreeMap, sync::Mutex};

use allotment::arch::{
    Aarch64, Arch, CpuError, Invalidation, PhysAddr, Translation, VirtAddr,
    emulated::{Emulated, Mmu},
    translate,
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
        $case::<$crate::common::Watched<X86_64, true>>();
    }};
}

/// Runs `work` for each number below `workers`, all at once.
pub fn together(workers: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let work = &work;
            scope.spawn(move || work(worker));
        }
    });
}

fn window() -> Range<VirtAddr> {
    VirtAddr(0xffff_9000_0000_0000)..VirtAddr(0xffff_9800_0000_0000)
}

impl<F: Mmu> TestArch for Emulated<F> {
    fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
        let machine = Self::new(arena_bytes + 2 * super::PAGE);
        let arena = machine.free_memory();
        super::litter(&machine, &arena);
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

/// An aarch64 CPU without FEAT_HAFDBS.
pub type NoDirtyState = Watched<Aarch64, false>;

/// What a TLB would hold after the accesses so far: by page, the frame and
/// whether it was writable.
type Cached = BTreeMap<u64, (PhysAddr, bool)>;

/// A machine that panics where a TLB which keeps everything until it must not
/// would show a byte, or let through a store, that the tables no longer do.
#[derive(Debug)]
pub struct Watched<F, const DIRTY_STATE: bool> {
    machine: Emulated<F>,
    cached: Mutex<Cached>,
}

impl<F: Mmu, const DIRTY_STATE: bool> Watched<F, DIRTY_STATE> {
    /// Runs an access, and keeps what it translated to.
    fn access<T>(
        &self,
        address: VirtAddr,
        write: bool,
        run: impl Fn() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        // Held across the walk, so that an invalidation comes before or after.
        let mut cached = self.cached.lock().unwrap();
        let page = address.0 / super::PAGE as u64;
        let done = run();
        match (&done, cached.get(&page)) {
            (Err(_), Some((_, writable))) if !write || *writable && DIRTY_STATE => {
                panic!("{address} is refused by the tables only: a translation of it was not invalidated")
            }
            (Err(_), _) => {}
            (Ok(_), _) => {
                // SAFETY: the tables live as long as the machine.
                let found = unsafe { translate(&self.machine, VirtAddr(page * super::PAGE as u64)) };
                if let Some(Translation { physical, writable, .. }) = found {
                    let elsewhere = cached.iter().find(|&(&at, &(frame, _))| at != page && frame == physical);
                    assert_eq!(elsewhere, None, "{address} has a frame that is cached elsewhere");
                    cached.insert(page, (physical, writable));
                }
            }
        }
        done
    }
}

// SAFETY: everything is the emulated machine's.
unsafe impl<F: Mmu, const DIRTY_STATE: bool> Arch for Watched<F, DIRTY_STATE> {
    type Format = F;

    const ALIAS_IS_MAPPED: bool = false;

    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        self.machine.physical(address)
    }

    fn root(&self, address: VirtAddr) -> PhysAddr {
        self.machine.root(address)
    }

    fn levels(&self) -> u8 {
        self.machine.levels()
    }

    fn hardware_dirty(&self) -> bool {
        self.machine.hardware_dirty()
    }

    fn publish(&self) {
        self.machine.publish();
    }

    fn cpus(&self) -> usize {
        self.machine.cpus()
    }

    fn current_cpu(&self) -> usize {
        self.machine.current_cpu()
    }

    fn invalidate_local(&self, what: Invalidation) {
        self.invalidate_everywhere(what);
    }

    fn invalidate_everywhere(&self, what: Invalidation) {
        self.cached.lock().unwrap().retain(|&page, _| !what.covers(VirtAddr(page * super::PAGE as u64)));
        self.machine.invalidate_everywhere(what);
    }

    fn synchronise_code(&self, start: VirtAddr, bytes: usize) {
        self.machine.synchronise_code(start, bytes);
    }

    fn check(&self, window: VirtAddr) -> Result<(), CpuError> {
        self.machine.check(window)
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        let reached = self.cached.lock().unwrap().values().any(|&(cached, _)| cached == frame);
        assert!(!reached, "frame {frame} is cleared while a translation to it is cached");
        // SAFETY: by this function's contract.
        unsafe { self.machine.zero_frame(frame) };
    }
}

impl<F: Mmu, const DIRTY_STATE: bool> TestArch for Watched<F, DIRTY_STATE> {
    fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
        let (machine, window, arena) = Emulated::machine(arena_bytes);
        let machine = if DIRTY_STATE { machine } else { machine.without_hardware_dirty() };
        (Self { machine, cached: Mutex::default() }, window, arena)
    }

    fn load(&self, address: VirtAddr) -> Result<u8, Fault> {
        self.access(address, false, || self.machine.load(address))
    }

    fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
        self.access(address, true, || self.machine.store(address, byte))
    }
}
