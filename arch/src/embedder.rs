//! What the embedder's kernel tells: three small traits, shaped so that what a
//! kernel already has fits.
//!
//! | trait | asks | ready |
//! |---|---|---|
//! | [`PhysMap`] | where is physical memory mapped | [`PhysOffset`] |
//! | [`FrameSource`] | a frame for a table, at the carve only | `X86Frames`, `X86BumpFrames` (feature `x86_64-v0_15`) |
//! | [`Cpus`] | which CPU is this, and reach the others | one CPU, if none are named |

use core::ptr::NonNull;

use crate::PhysAddr;

/// Where physical memory is mapped.
///
/// # Safety
///
/// `phys_to_virt` is linear over arena and live tables:
/// `phys_to_virt(a + n)` is `phys_to_virt(a)` plus `n`, mapped readable and
/// writable as write-back memory, and stays so.
pub unsafe trait PhysMap: Send + Sync {
    /// Where `address` is mapped.
    fn phys_to_virt(&self, address: PhysAddr) -> NonNull<u8>;
}

/// The embedder's CPUs.
///
/// ```text
///            x86_64                               aarch64
///   revoke -> this CPU invalidates         revoke -> TLBI, broadcast
///          -> interrupt_others(work)                (never interrupts)
///               every other CPU: work()
/// ```
///
/// # Safety
///
/// * [`current`](Self::current) is below [`count`](Self::count), and no two
///   CPUs have the same number. Who calls Allotment stays on its CPU until the
///   call returns, so that the number stays right.
/// * Every CPU on which a root with the window is active is counted, also
///   while it idles: CPUs walk tables by speculation.
/// * A call of Allotment's stays on the CPU on which it began: no thread is
///   moved to another CPU in the midst of one.
/// * [`interrupt_others`](Self::interrupt_others) returns after every other
///   of them has run `work`, or is in a state from which it will not use the
///   window before it has invalidated everything (such as offline).
pub unsafe trait Cpus: Sync {
    /// How many there are. Does not change.
    fn count(&self) -> usize;

    /// The one that runs this. A load, as a rule.
    fn current(&self) -> usize;

    /// Runs `work` on every other CPU, now. x86_64 only: aarch64 broadcasts.
    ///
    /// `work` takes no lock and allocates nothing, so that it may run in an
    /// interrupt handler, whatever that interrupted. The caller may hold
    /// Allotment's locks: a CPU that waits for one must answer, hence a
    /// non-maskable interrupt, or a kernel that makes none of Allotment's calls
    /// with interrupts off.
    ///
    /// Several CPUs may call this at once: who waits here for others answers
    /// them meanwhile. On aarch64 nobody calls it; it may do nothing.
    fn interrupt_others(&self, work: &(dyn Fn() + Sync));
}

/// Physical memory mapped at one offset: the boot-loader's
/// `physical_memory_offset`, Limine's higher-half direct map, or 0 for a
/// kernel that is mapped to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysOffset(pub u64);

// SAFETY: linear by arithmetic; that memory is mapped there is the promise of
// whoever makes a machine from it.
unsafe impl PhysMap for PhysOffset {
    // Physical address 0 under offset 0 has no usable pointer; it comes out
    // dangling, and no frame of an arena is ever there.
    #[inline]
    fn phys_to_virt(&self, address: PhysAddr) -> NonNull<u8> {
        let virt = self.0.wrapping_add(address.0);
        #[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits on every supported target")]
        NonNull::new(core::ptr::with_exposed_provenance_mut(virt as usize)).unwrap_or(NonNull::dangling())
    }
}

/// Where frames for tables come from, at the carve. Afterwards the core takes
/// all it needs from its arena.
///
/// # Safety
///
/// A frame that [`allocate_frame`](Self::allocate_frame) gives is 4 KiB of
/// memory, reached through the machine's physical map, that nobody else uses
/// until [`deallocate_frame`](Self::deallocate_frame).
pub unsafe trait FrameSource {
    /// A frame with any contents, or `None` if there is none left.
    fn allocate_frame(&mut self) -> Option<PhysAddr>;

    /// Takes a frame back, when a carve fails after it took some.
    ///
    /// # Safety
    ///
    /// The frame came from this source and is used no more.
    unsafe fn deallocate_frame(&mut self, frame: PhysAddr);
}
