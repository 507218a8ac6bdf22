//! The CPU itself: eight instructions that are allowed to fault.
//!
//! ```text
//!   load ──> engine_load_4:  mov eax, [rdi]      page fault ──> the kernel's handler
//!              xor edx, edx                                        |
//!              ret                      engine_access_faulted: <───'  skip_faulting_access
//!                                         mov edx, 1                  moves the program counter
//!                                         ret
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

/// A value, and not 0 if the access faulted.
#[repr(C)]
struct Loaded {
    value: u64,
    faulted: u64,
}

type Load = unsafe extern "C" fn(u64) -> Loaded;
type Store = unsafe extern "C" fn(u64, u64) -> u64;

/// By the logarithm of their bytes.
const LOADS: [Load; 4] = [engine_load_1, engine_load_2, engine_load_4, engine_load_8];
const STORES: [Store; 4] = [engine_store_1, engine_store_2, engine_store_4, engine_store_8];

/// For the kernel's exception handler: has a load or store of wasm's that faults
/// return that it did. Other exceptions are not the engine's.
pub fn skip_faulting_access(frame: &mut Frame, exception: &Exception) -> Handled {
    let is_access = LOADS.iter().any(|&load| frame.pc() == load as *const () as u64)
        || STORES.iter().any(|&store| frame.pc() == store as *const () as u64);
    if is_access && matches!(exception, Exception::PageFault { .. }) {
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
        let Loaded { value, faulted } = unsafe { load(at.0) };
        if faulted == 0 { Ok(value) } else { Err(at) }
    }

    unsafe fn store(&self, at: VirtAddr, bytes: usize, value: u64) -> Result<(), VirtAddr> {
        let store = STORES[(bytes.trailing_zeros() as usize).min(3)];
        // SAFETY: the bytes are the caller's to store, or fault, which is caught.
        let faulted = unsafe { store(at.0, value) };
        if faulted == 0 { Ok(()) } else { Err(at) }
    }
}

unsafe extern "C" {
    fn engine_load_1(address: u64) -> Loaded;
    fn engine_load_2(address: u64) -> Loaded;
    fn engine_load_4(address: u64) -> Loaded;
    fn engine_load_8(address: u64) -> Loaded;
    fn engine_store_1(address: u64, value: u64) -> u64;
    fn engine_store_2(address: u64, value: u64) -> u64;
    fn engine_store_4(address: u64, value: u64) -> u64;
    fn engine_store_8(address: u64, value: u64) -> u64;
    fn engine_access_faulted();
}

// The first instruction of each is the one that may fault. That of a load gives a
// `Loaded` in two registers, that of a store one: where it faulted, both say so.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".macro engine_load name, instruction:vararg",
    ".global \\name",
    "\\name: \\instruction",
    "xor edx, edx",
    "ret",
    ".endm",
    ".macro engine_store name, instruction:vararg",
    ".global \\name",
    "\\name: \\instruction",
    "xor eax, eax",
    "ret",
    ".endm",
    "engine_load engine_load_1, movzx eax, byte ptr [rdi]",
    "engine_load engine_load_2, movzx eax, word ptr [rdi]",
    "engine_load engine_load_4, mov eax, dword ptr [rdi]",
    "engine_load engine_load_8, mov rax, qword ptr [rdi]",
    "engine_store engine_store_1, mov byte ptr [rdi], sil",
    "engine_store engine_store_2, mov word ptr [rdi], si",
    "engine_store engine_store_4, mov dword ptr [rdi], esi",
    "engine_store engine_store_8, mov qword ptr [rdi], rsi",
    ".global engine_access_faulted",
    "engine_access_faulted:",
    "mov eax, 1",
    "mov edx, 1",
    "ret",
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".macro engine_load name, instruction:vararg",
    ".global \\name",
    "\\name: \\instruction",
    "mov x1, #0",
    "ret",
    ".endm",
    ".macro engine_store name, instruction:vararg",
    ".global \\name",
    "\\name: \\instruction",
    "mov x0, #0",
    "ret",
    ".endm",
    "engine_load engine_load_1, ldrb w0, [x0]",
    "engine_load engine_load_2, ldrh w0, [x0]",
    "engine_load engine_load_4, ldr w0, [x0]",
    "engine_load engine_load_8, ldr x0, [x0]",
    "engine_store engine_store_1, strb w1, [x0]",
    "engine_store engine_store_2, strh w1, [x0]",
    "engine_store engine_store_4, str w1, [x0]",
    "engine_store engine_store_8, str x1, [x0]",
    ".global engine_access_faulted",
    "engine_access_faulted:",
    "mov x0, #1",
    "mov x1, #1",
    "ret",
);
