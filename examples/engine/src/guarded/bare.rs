//! The CPU itself: eight instructions that are allowed to fault.
//!
//! ```text
//!   load ──> engine_load_4:  mov eax, [rdi]      page fault ──> the kernel's handler
//!              xor edx, edx                                        |
//!              ret                      engine_access_faulted: <───'  skip_faulting_access
//!                                         mov rax, rdi                moves the program counter,
//!                                         mov edx, 1                  and puts the address that
//!                                         ret                         faulted into an argument
//! ```
//!
//! The handler asks nobody: what the fault means is asked afterwards, in ordinary
//! code, and the access made again if that says so.

use core::arch::global_asm;

use allotment::arch::{Native, VirtAddr};
use kernel::{
    Frame,
    exception::{Exception, Handled},
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

/// For the kernel's exception handler: has a load or store of wasm's that faults
/// return that it did. Other exceptions are not the engine's.
pub fn skip_faulting_access(frame: &mut Frame, exception: &Exception) -> Handled {
    let is_access = LOADS.iter().any(|&load| frame.pc() == load as *const () as u64)
        || STORES.iter().any(|&store| frame.pc() == store as *const () as u64);
    if let (true, Exception::PageFault { addr, .. }) = (is_access, exception) {
        frame.set_argument(0, *addr);
        frame.set_pc(engine_access_faulted as *const () as u64);
        return Handled::Resume;
    }
    Handled::No
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
