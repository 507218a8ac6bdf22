//! The instructions: invalidation, control registers, vector moves.

use core::{arch::asm, ptr::NonNull};

use x86_64::{
    VirtAddr as X86VirtAddr,
    instructions::tlb,
    registers::{
        control::{Cr0, Cr0Flags, Cr3, Cr4, Cr4Flags},
        model_specific::{Efer, EferFlags},
    },
};

use super::X86_64;
use crate::{Arch, CpuError, Pages, PhysAddr, PhysOffset, VirtAddr};

/// Beyond this many pages one reload of CR3 is cheaper than an `invlpg` each.
const FLUSH_ALL_ABOVE: usize = 64;

/// This x86_64 CPU and the tables that its CR3 points to.
///
/// With AVX on (CR4.OSXSAVE and XCR0) frames are cleared with `ymm0`: calls
/// that clear frames change vector registers.
#[derive(Debug)]
pub struct Native {
    physical: PhysOffset,
    root: PhysAddr,
    levels: u8,
    wide: bool,
}

impl Native {
    /// Adopts the live tables (CR3) without owning them.
    ///
    /// # Safety
    ///
    /// * The caller runs at CPL 0.
    /// * Physical memory is mapped at `physical`, readable and writable, as
    ///   write-back memory, as far as arena and live tables reach.
    /// * The root stays alive and in CR3 while the value is used, and is
    ///   active on this CPU only: other CPUs are not yet reached by
    ///   invalidation on x86_64.
    /// * CR0.WP, CR4.PCIDE, CR4.LA57, CR4.OSXSAVE, EFER.NXE and XCR0 do not
    ///   change.
    #[must_use]
    pub unsafe fn current(physical: PhysOffset) -> Self {
        let (root, _) = Cr3::read();
        let cr4 = Cr4::read();
        Self {
            physical,
            root: PhysAddr(root.start_address().as_u64()),
            levels: if cr4.contains(Cr4Flags::L5_PAGING) { 5 } else { 4 },
            wide: cr4.contains(Cr4Flags::OSXSAVE) && has_avx(),
        }
    }
}

/// Whether CPUID and XCR0 both allow 32-byte moves (SDM volume 1, 14.3).
/// Called with CR4.OSXSAVE set.
fn has_avx() -> bool {
    const SSE_AND_AVX: u64 = 0b110;
    let avx = core::arch::x86_64::__cpuid(1).ecx & 1 << 28 != 0;
    if !avx {
        return false;
    }
    let (low, high): (u32, u32);
    // SAFETY: CR4.OSXSAVE is set, so that `xgetbv` exists; it changes nothing.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    (u64::from(high) << 32 | u64::from(low)) & SSE_AND_AVX == SSE_AND_AVX
}

// SAFETY: `physical` is linear by `PhysOffset`; the CPU's walks are ordered
// after its own stores (SDM 3A, 4.10.4.3: no invalidation is needed for an
// entry that was not present); `invlpg` and a CR3 reload drop translations and
// paging-structure caches of the current PCID (4.10.4.1), which `check` makes
// sure is the only one, and no entry of ours is global; `current`'s caller
// promises that the root is active on no other CPU.
unsafe impl Arch for Native {
    type Format = X86_64;

    const ALIAS_IS_MAPPED: bool = true;

    fn physical(&self, address: PhysAddr) -> NonNull<u8> {
        self.physical.pointer(address)
    }

    fn root(&self, _address: VirtAddr) -> PhysAddr {
        self.root
    }

    fn levels(&self) -> u8 {
        self.levels
    }

    fn hardware_dirty(&self) -> bool {
        true
    }

    fn publish(&self) {
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
    }

    fn invalidate(&self, pages: Pages) {
        if pages.count > FLUSH_ALL_ABOVE {
            tlb::flush_all();
        } else {
            for page in pages.iter() {
                tlb::flush(X86VirtAddr::new_truncate(page.0));
            }
        }
    }

    fn synchronise_code(&self, _start: VirtAddr, _bytes: usize) {
        // Instruction caches snoop stores (SDM 3A, 11.6); the jump that
        // follows a publication is the serialisation it needs.
    }

    fn check(&self) -> Result<(), CpuError> {
        if !Cr0::read().contains(Cr0Flags::WRITE_PROTECT) {
            return Err(CpuError::WriteProtectOff);
        }
        if !Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE) {
            return Err(CpuError::NoExecuteOff);
        }
        if Cr4::read().contains(Cr4Flags::PCID) {
            return Err(CpuError::ProcessContexts);
        }
        Ok(())
    }

    unsafe fn zero_frame(&self, frame: PhysAddr) {
        let start = self.physical(frame).as_ptr();
        if self.wide {
            // SAFETY: the page is writable and ours (the caller's promise).
            // AVX is enabled (`wide`). `vzeroupper` changes every vector
            // register; all are declared, as a call's scratch registers are.
            unsafe {
                asm!(
                    "vpxor xmm0, xmm0, xmm0",
                    "2:",
                    "vmovdqa [rdi], ymm0",
                    "vmovdqa [rdi + 32], ymm0",
                    "vmovdqa [rdi + 64], ymm0",
                    "vmovdqa [rdi + 96], ymm0",
                    "vmovdqa [rdi + 128], ymm0",
                    "vmovdqa [rdi + 160], ymm0",
                    "vmovdqa [rdi + 192], ymm0",
                    "vmovdqa [rdi + 224], ymm0",
                    "vmovdqa [rdi + 256], ymm0",
                    "vmovdqa [rdi + 288], ymm0",
                    "vmovdqa [rdi + 320], ymm0",
                    "vmovdqa [rdi + 352], ymm0",
                    "vmovdqa [rdi + 384], ymm0",
                    "vmovdqa [rdi + 416], ymm0",
                    "vmovdqa [rdi + 448], ymm0",
                    "vmovdqa [rdi + 480], ymm0",
                    "add rdi, 512",
                    "sub ecx, 1",
                    "jnz 2b",
                    "vzeroupper",
                    inout("rdi") start => _,
                    inout("ecx") 8u32 => _,
                    clobber_abi("sysv64"),
                    options(nostack),
                );
            }
        } else {
            // SAFETY: as above; the direction flag is clear in Rust code.
            unsafe {
                asm!(
                    "rep stosq",
                    inout("rdi") start => _,
                    inout("rcx") 512u64 => _,
                    in("rax") 0u64,
                    options(nostack, preserves_flags),
                );
            }
        }
    }
}
