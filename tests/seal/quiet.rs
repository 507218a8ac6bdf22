//! A test machine whose own use of the heap does not count: an emulated CPU
//! keeps its caches there.

use core::{ops::Range, ptr::NonNull};

use allotment::arch::{Arch, CpuError, Invalidation, PhysAddr, VirtAddr};

use crate::{
    common::{Fault, TestArch},
    heap::excused,
};

pub(crate) struct Quiet<A>(A);

// SAFETY: all that it does another one does.
unsafe impl<A: Arch> Arch for Quiet<A> {
    type Format = A::Format;
    const ALIAS_IS_MAPPED: bool = A::ALIAS_IS_MAPPED;

    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        excused(|| self.0.physical(address))
    }

    fn root(&self, address: VirtAddr) -> PhysAddr {
        excused(|| self.0.root(address))
    }

    fn live_root(&self, address: VirtAddr) -> PhysAddr {
        excused(|| self.0.live_root(address))
    }

    fn walks(&self, address: VirtAddr) -> bool {
        excused(|| self.0.walks(address))
    }

    fn half_bits(&self) -> u32 {
        excused(|| self.0.half_bits())
    }

    fn levels(&self) -> u8 {
        excused(|| self.0.levels())
    }

    fn hardware_dirty(&self) -> bool {
        excused(|| self.0.hardware_dirty())
    }

    fn cpus(&self) -> usize {
        excused(|| self.0.cpus())
    }

    fn current_cpu(&self) -> usize {
        excused(|| self.0.current_cpu())
    }

    fn publish(&self) {
        excused(|| self.0.publish());
    }

    fn invalidate_local(&self, what: Invalidation) {
        excused(|| self.0.invalidate_local(what));
    }

    fn invalidate_everywhere(&self, what: Invalidation) {
        excused(|| self.0.invalidate_everywhere(what));
    }

    unsafe fn read_bytes(&self, address: VirtAddr, into: NonNull<u8>, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: by this function's contract.
        excused(|| unsafe { self.0.read_bytes(address, into, len) })
    }

    unsafe fn write_bytes(&self, address: VirtAddr, from: NonNull<u8>, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: as above.
        excused(|| unsafe { self.0.write_bytes(address, from, len) })
    }

    unsafe fn fill_bytes(&self, address: VirtAddr, byte: u8, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: as above.
        excused(|| unsafe { self.0.fill_bytes(address, byte, len) })
    }

    unsafe fn move_bytes(&self, from: VirtAddr, to: VirtAddr, len: usize) -> Result<(), VirtAddr> {
        // SAFETY: as above.
        excused(|| unsafe { self.0.move_bytes(from, to, len) })
    }

    fn synchronise_code(&self, start: VirtAddr, bytes: usize) {
        excused(|| self.0.synchronise_code(start, bytes));
    }

    fn check(&self, window: VirtAddr) -> Result<(), CpuError> {
        excused(|| self.0.check(window))
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        // SAFETY: the caller's promise is the one asked for.
        excused(|| unsafe { self.0.zero_frame(frame) });
    }

    unsafe fn copy_frame(&self, from: PhysAddr, to: PhysAddr) {
        // SAFETY: as above.
        excused(|| unsafe { self.0.copy_frame(from, to) });
    }
}

impl<A: TestArch> TestArch for Quiet<A> {
    fn machine(arena_bytes: usize) -> (Self, Range<VirtAddr>, Range<PhysAddr>) {
        let (arch, window, arena) = A::machine(arena_bytes);
        (Self(arch), window, arena)
    }

    fn load(&self, address: VirtAddr) -> Result<u8, Fault> {
        excused(|| self.0.load(address))
    }

    fn store(&self, address: VirtAddr, byte: u8) -> Result<(), Fault> {
        excused(|| self.0.store(address, byte))
    }

    fn on_cpu(&self, cpu: usize, work: impl Fn() + Sync) {
        self.0.on_cpu(cpu, work);
    }

    fn with_root(&self, root: PhysAddr, work: impl FnOnce()) {
        self.0.with_root(root, work);
    }

    fn racing(&self, work: impl Fn() + Sync) {
        self.0.racing(work);
    }

    fn use_window(&self, window: Range<VirtAddr>) {
        self.0.use_window(window);
    }

    fn interrupts(&self) -> u64 {
        self.0.interrupts()
    }

    fn audit(&self) {
        self.0.audit();
    }
}
