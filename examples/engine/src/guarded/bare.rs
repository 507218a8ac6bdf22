//! The CPU itself: eight instructions that are allowed to fault.
//!
//! ```text
//!   load ──> engine_load_4:  mov eax, [rdi]      page fault ──> the kernel's handler
//!              xor edx, edx       ^                                |
//!              ret                | Resume                         v
//!                                 '──────────────────────── answer_fault ──> Allocator::fault
//!                                                                  | Trap
//!                            engine_access_faulted: <──────────────'
//!                              mov rax, rdi       it moves the program counter, and puts
//!                              mov edx, 1         the address that faulted into an argument
//!                              ret
//! ```
//!
//! The handler answers the core's own faults as well: where the CPU keeps no dirty
//! state, the first write to a page is one, whoever makes it.

use core::arch::global_asm;

use allotment::{
    Allocator, FaultAccess, Verdict,
    arch::{Arch, Native, VirtAddr},
};
use kernel::{
    Frame,
    exception::{Access, Exception, Handled},
};

use crate::Guarded;

/// What was loaded, or the address that faulted: of an access across two pages it
/// may be in the second.
#[repr(C)]
struct Accessed {
    value: u64,
    faulted: u64,
}

impl Accessed {
    fn value(&self) -> Result<u64, VirtAddr> {
        if self.faulted == 0 { Ok(self.value) } else { Err(VirtAddr(self.value)) }
    }
}

type Load = unsafe extern "C" fn(u64) -> Accessed;
type Store = unsafe extern "C" fn(u64, u64) -> Accessed;

/// By the logarithm of their bytes.
const LOADS: [Load; 4] = [engine_load_1, engine_load_2, engine_load_4, engine_load_8];
const STORES: [Store; 4] = [engine_store_1, engine_store_2, engine_store_4, engine_store_8];

/// For the kernel's exception handler: has a page fault of the window go on as the
/// allocator says, and an access of wasm's that may not be made return that it
/// faulted. Other exceptions are not the engine's.
pub fn answer_fault<A: Arch>(allocator: &Allocator<A>, frame: &mut Frame, exception: &Exception) -> Handled {
    let Exception::PageFault { addr, access, .. } = *exception else { return Handled::No };
    let access = match access {
        Access::Read => FaultAccess::Read,
        Access::Write => FaultAccess::Write,
        Access::Execute => FaultAccess::Execute,
    };
    if allocator.fault(VirtAddr(addr), access) == Verdict::Resume {
        return Handled::Resume;
    }
    let may_fault = LOADS.iter().any(|&load| frame.pc() == load as *const () as u64)
        || STORES.iter().any(|&store| frame.pc() == store as *const () as u64);
    if !may_fault {
        return Handled::No;
    }
    frame.set_argument(0, addr);
    frame.set_pc(engine_access_faulted as *const () as u64);
    Handled::Resume
}

// SAFETY: each is one instruction on the address itself.
unsafe impl Guarded for Native {
    unsafe fn load(&self, at: VirtAddr, bytes: usize) -> Result<u64, VirtAddr> {
        let load = LOADS[(bytes.trailing_zeros() as usize).min(3)];
        // SAFETY: the bytes are the caller's to load, or fault, which is caught.
        unsafe { load(at.0) }.value()
    }

    unsafe fn store(&self, at: VirtAddr, bytes: usize, value: u64) -> Result<(), VirtAddr> {
        let store = STORES[(bytes.trailing_zeros() as usize).min(3)];
        // SAFETY: the bytes are the caller's to store, or fault, which is caught.
        unsafe { store(at.0, value) }.value().map(drop)
    }
}

unsafe extern "C" {
    fn engine_load_1(address: u64) -> Accessed;
    fn engine_load_2(address: u64) -> Accessed;
    fn engine_load_4(address: u64) -> Accessed;
    fn engine_load_8(address: u64) -> Accessed;
    fn engine_store_1(address: u64, value: u64) -> Accessed;
    fn engine_store_2(address: u64, value: u64) -> Accessed;
    fn engine_store_4(address: u64, value: u64) -> Accessed;
    fn engine_store_8(address: u64, value: u64) -> Accessed;
    fn engine_access_faulted();
}

// The first instruction of each is the one that may fault. All give an `Accessed`,
// in two registers.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".macro engine_access name, instruction:vararg",
    ".global \\name",
    "\\name: \\instruction",
    "mov edx, 0",
    "ret",
    ".endm",
    "engine_access engine_load_1, movzx eax, byte ptr [rdi]",
    "engine_access engine_load_2, movzx eax, word ptr [rdi]",
    "engine_access engine_load_4, mov eax, dword ptr [rdi]",
    "engine_access engine_load_8, mov rax, qword ptr [rdi]",
    "engine_access engine_store_1, mov byte ptr [rdi], sil",
    "engine_access engine_store_2, mov word ptr [rdi], si",
    "engine_access engine_store_4, mov dword ptr [rdi], esi",
    "engine_access engine_store_8, mov qword ptr [rdi], rsi",
    ".global engine_access_faulted",
    "engine_access_faulted:",
    "mov rax, rdi",
    "mov edx, 1",
    "ret",
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".macro engine_access name, instruction:vararg",
    ".global \\name",
    "\\name: \\instruction",
    "mov x1, #0",
    "ret",
    ".endm",
    "engine_access engine_load_1, ldrb w0, [x0]",
    "engine_access engine_load_2, ldrh w0, [x0]",
    "engine_access engine_load_4, ldr w0, [x0]",
    "engine_access engine_load_8, ldr x0, [x0]",
    "engine_access engine_store_1, strb w1, [x0]",
    "engine_access engine_store_2, strh w1, [x0]",
    "engine_access engine_store_4, str w1, [x0]",
    "engine_access engine_store_8, str x1, [x0]",
    // The address is in x0.
    ".global engine_access_faulted",
    "engine_access_faulted:",
    "mov x1, #1",
    "ret",
);
