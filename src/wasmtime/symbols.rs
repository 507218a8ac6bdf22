//! The C symbols themselves: the only global state of the crate.
//!
//! Declarations: `crates/wasmtime/src/runtime/vm/sys/custom/capi.rs` of
//! Wasmtime 48. A test compares them with these definitions.

use core::{
    arch::naked_asm,
    fmt,
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr, Ordering},
};

use allotment_arch::PAGE_SIZE;
use spin::Once;

use super::{Delivery, Exception, Platform, PlatformError, Protection, TrapHandler};

static PLATFORM: Once<(Platform, fn(ip: usize) -> !)> = Once::new();

/// Wasmtime's handler, as the stub finds it.
static HANDLER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// A platform was installed before: the C symbols can serve one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyInstalled;

impl fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a platform is installed already; the C symbols of wasmtime can serve only one")
    }
}

impl core::error::Error for AlreadyInstalled {}

/// Makes `platform` the one that Wasmtime's C symbols use, for good. Call it
/// before the first `Engine`.
///
/// `unknown_trap` ends the machine: it is called should a fault in compiled
/// code be none that Wasmtime knows, with the address of the instruction.
///
/// # Errors
///
/// [`AlreadyInstalled`].
pub fn install(
    platform: Platform,
    unknown_trap: fn(ip: usize) -> !,
) -> Result<&'static Platform, AlreadyInstalled> {
    let mut first = false;
    let (platform, _) = PLATFORM.call_once(|| {
        first = true;
        (platform, unknown_trap)
    });
    if first { Ok(platform) } else { Err(AlreadyInstalled) }
}

/// The platform in use.
pub fn installed() -> Option<&'static Platform> {
    PLATFORM.get().map(|(platform, _)| platform)
}

/// Says what an exception means, from the embedder's exception handler. With `frame` for what that
/// can change of the interrupted code:
///
/// ```ignore
/// match deliver(&Exception { pc: frame.pc, fault }) {
///     Delivery::Resume => {}
///     Delivery::Divert(to) => frame.pc = to,
///     Delivery::NotWasm(report) => panic!("at {:#x}: {report:?}", frame.pc),
/// }
/// ```
///
/// [`Delivery::NotWasm`] before [`install`].
pub fn deliver(exception: &Exception) -> Delivery {
    match installed() {
        Some(platform) => platform.deliver_to(exception, stub as *const () as usize),
        None => Delivery::NotWasm(None),
    }
}

/// Where a trap continues after the exception was left: with the stack, the frame pointer and the
/// interrupt state of the code that trapped. Below its stack pointer that may use 128 bytes (wasm's
/// keeps no such red zone; they are cheap).
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn stub() -> ! {
    naked_asm!("sub rsp, 128", "and rsp, -16", "mov rdi, rbp", "call {go_on}", "ud2", go_on = sym go_on)
}

/// The same. The stack pointer is aligned, as every access by it is checked.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
extern "C" fn stub() -> ! {
    naked_asm!("sub sp, sp, #128", "mov x0, x29", "b {go_on}", go_on = sym go_on)
}

/// The rest of the stub, for the frame pointer of what trapped.
extern "C" fn go_on(fp: usize) -> ! {
    // `deliver` diverts only for an installed platform.
    let trapped = installed().map(Platform::trapped);
    let (ip, address) = trapped.map_or((0, None), |trapped| (trapped.pc, trapped.address));
    let handler = HANDLER.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: only `wasmtime_init_traps` stores here, and it stores a
        // `TrapHandler`.
        let handler: TrapHandler = unsafe { core::mem::transmute::<*mut (), TrapHandler>(handler) };
        handler(ip, fp, address.is_some(), address.unwrap_or(0));
    }
    match PLATFORM.get() {
        Some((_, unknown_trap)) => unknown_trap(ip),
        // Unreachable: `deliver` diverts here only for an installed platform.
        None => loop {
            core::hint::spin_loop();
        },
    }
}

/// Runs a call on the platform and turns its result into C's.
fn call<T>(run: impl FnOnce(&Platform) -> Result<T, PlatformError>, done: impl FnOnce(T)) -> i32 {
    const ENODEV: i32 = 19;
    let Some(platform) = installed() else { return ENODEV };
    match platform.unswitched(|| run(platform)) {
        Ok(value) => {
            done(value);
            0
        }
        Err(error) => error.code(),
    }
}

const EINVAL: i32 = 22;

#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_new(size: usize, prot_flags: u32, ret: &mut *mut u8) -> i32 {
    call(
        |platform| platform.map(size, Protection::from_flags(prot_flags)?),
        |start: NonNull<u8>| *ret = start.as_ptr(),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_mmap_remap(addr: *mut u8, size: usize, prot_flags: u32) -> i32 {
    let Some(start) = NonNull::new(addr) else { return EINVAL };
    // SAFETY: Wasmtime remaps only mappings of its own that nobody uses.
    call(|platform| unsafe { platform.remap(start, size, Protection::from_flags(prot_flags)?) }, |()| {})
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_munmap(ptr: *mut u8, size: usize) -> i32 {
    let Some(start) = NonNull::new(ptr) else { return EINVAL };
    // SAFETY: Wasmtime unmaps only mappings of its own that nobody uses.
    call(|platform| unsafe { platform.unmap(start, size) }, |()| {})
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_mprotect(ptr: *mut u8, size: usize, prot_flags: u32) -> i32 {
    let Some(start) = NonNull::new(ptr) else { return EINVAL };
    // SAFETY: Wasmtime protects only mappings of its own.
    call(|platform| unsafe { platform.protect(start, size, Protection::from_flags(prot_flags)?) }, |()| {})
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_page_size() -> usize {
    PAGE_SIZE
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: TrapHandler) -> i32 {
    HANDLER.store(handler as *mut (), Ordering::Release);
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_memory_image_new(ptr: *const u8, len: usize, ret: &mut *mut u8) -> i32 {
    let Some(bytes) = NonNull::new(ptr.cast_mut()) else { return EINVAL };
    call(
        // SAFETY: Wasmtime's bytes are those of a module, which can be read.
        |platform| unsafe { platform.new_image(bytes, len) },
        |image| *ret = image.map_or(ptr::null_mut(), NonNull::as_ptr),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_memory_image_map_at(image: *mut u8, addr: *mut u8, len: usize) -> i32 {
    let (Some(image), Some(start)) = (NonNull::new(image), NonNull::new(addr)) else { return EINVAL };
    // SAFETY: Wasmtime places images of its own in mappings that nobody uses yet.
    call(|platform| unsafe { platform.map_image(image, start, len) }, |()| {})
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_memory_image_free(image: *mut u8) {
    if let (Some(platform), Some(image)) = (installed(), NonNull::new(image)) {
        // SAFETY: Wasmtime frees an image once, and uses it no more.
        platform.unswitched(|| unsafe { platform.free_image(image) });
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    installed().map_or(ptr::null_mut(), |platform| platform.tls(slot))
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, ptr: *mut u8) {
    if let Some(platform) = installed() {
        platform.set_tls(slot, ptr);
    }
}
