//! Changing stacks, and coming back from one that is full.
//!
//! ```text
//!   run:    own stack --> top of the fiber's --> function --> own stack
//!                                                   |
//!                               guard faults, and the hook goes on
//!                               at `stack_back` instead
//!
//!   trial:  registers from `from`, stack pointer to the end; a push; what the
//!           registers hold then
//! ```

use core::{
    arch::global_asm,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use allotment::{Allocator, FaultAccess, FaultReport, FiberStack, Verdict, arch::VirtAddr};
use kernel::{
    Frame,
    exception::{Access, Exception, Handled, set_hook},
};
use spin::Mutex;

/// How a function on a fiber's stack ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// As functions do.
    Returned,
    /// In the guard of its stack.
    Overflowed(FaultReport),
}

/// General registers in the order of the loads below, then vector registers.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct State {
    pub(crate) bytes: [u8; VECTORS + 512],
}

/// Where vector registers begin in a [`State`]: bytes.
const VECTORS: usize = 256;

/// Whether a word of a [`State`] is a register. The stack pointer is none.
pub(crate) fn is_register(word: usize) -> bool {
    let general = if cfg!(target_arch = "x86_64") { word < 16 && word != 7 } else { word < 31 };
    general || word >= VECTORS / 8
}

/// Whom the hook asks, and what it heard.
static ALLOCATOR: AtomicPtr<Allocator> = AtomicPtr::new(core::ptr::null_mut());
static HEARD: Mutex<Option<FaultReport>> = Mutex::new(None);
/// Where the hook goes on.
static BACK: AtomicU64 = AtomicU64::new(0);
/// The stack on which the hook ran: an address in it.
static HOOK_STACK: AtomicU64 = AtomicU64::new(0);

/// Runs `function` on `stack`, whatever becomes of it.
pub(crate) fn run(
    allocator: &Allocator,
    stack: &FiberStack<'_>,
    function: extern "C" fn(u64),
    with: u64,
) -> Ended {
    answer_with(allocator, stack_back as *const () as u64);
    // SAFETY: the stack is whole and nobody else's; an overflow of it comes
    // back at `stack_back`.
    unsafe { stack_run(stack.top().0, function, with) };
    heard(stack).map_or(Ended::Returned, Ended::Overflowed)
}

/// Runs `function`, which needs no more than there is, on the stack that ends at
/// `top`.
pub(crate) fn call(top: VirtAddr, function: extern "C" fn(u64), with: u64) {
    // SAFETY: the stack is whole and nobody else's.
    unsafe { stack_run(top.0, function, with) };
}

/// Pushes a word with only `words` of room left on `stack`, with all registers
/// as in `from`, and returns what they are after it.
pub(crate) fn trial(
    allocator: &Allocator,
    stack: &FiberStack<'_>,
    from: &State,
    words: u64,
) -> (State, Option<FaultReport>) {
    answer_with(allocator, stack_pushed as *const () as u64);
    let bottom = stack.stack().cast::<u8>().as_ptr();
    // Nothing that was not stored looks as if it were.
    let mut after = State { bytes: from.bytes.map(|byte| !byte) };
    // SAFETY: the stack is whole and nobody else's; the push faults or does not,
    // and goes on at `stack_pushed` either way.
    unsafe { stack_trial(from, bottom, words * 8, &raw mut after) };
    (after, heard(stack))
}

fn answer_with(allocator: &Allocator, back: u64) {
    ALLOCATOR.store(core::ptr::from_ref(allocator).cast_mut(), Ordering::Relaxed);
    BACK.store(back, Ordering::Relaxed);
    *HEARD.lock() = None;
    HOOK_STACK.store(0, Ordering::Relaxed);
    set_hook(answer);
}

/// What the hook heard. It heard it on a stack of the kernel's for exceptions,
/// not on the fiber's.
fn heard(stack: &FiberStack<'_>) -> Option<FaultReport> {
    let report = HEARD.lock().take()?;
    let ran_at = HOOK_STACK.load(Ordering::Relaxed);
    let bottom = stack.guard().start.0;
    assert!(!(bottom..stack.top().0).contains(&ran_at), "the hook ran on the stack that is full");
    let here = kernel::cpus::current();
    let on =
        kernel::stack::all().find(|stack| stack.bytes().contains(&ran_at)).expect("a stack of the kernel");
    assert_eq!((on.name, on.cpu), ("exception", here));
    Some(report)
}

fn answer(frame: &mut Frame, exception: &Exception) -> Handled {
    let &Exception::PageFault { addr, access, .. } = exception else { return Handled::No };
    let access = match access {
        Access::Read => FaultAccess::Read,
        Access::Write => FaultAccess::Write,
        Access::Execute => FaultAccess::Execute,
    };
    // SAFETY: whoever runs on a fiber's stack put it there, and waits.
    let allocator = unsafe { &*ALLOCATOR.load(Ordering::Relaxed) };
    match allocator.fault(VirtAddr(addr), access) {
        Verdict::Resume => Handled::Resume,
        Verdict::Trap(report) => {
            *HEARD.lock() = Some(report);
            HOOK_STACK.store((&raw const report).addr() as u64, Ordering::Relaxed);
            frame.set_pc(BACK.load(Ordering::Relaxed));
            Handled::Resume
        }
        Verdict::NotOurs => Handled::No,
    }
}

unsafe extern "C" {
    /// Calls `function(with)` on the stack that ends at `top`.
    fn stack_run(top: u64, function: extern "C" fn(u64), with: u64);
    /// What follows that call, on whatever stack.
    fn stack_back();
    /// Pushes words until the stack pointer is not above `limit`, and returns.
    pub(crate) fn stack_fill(limit: u64);
    /// Loads all registers from `from`, pushes a word on the stack `room` bytes
    /// above `bottom`, and puts the registers into `to`.
    fn stack_trial(from: *const State, bottom: *mut u8, room: u64, to: *mut State);
    /// What follows that push.
    fn stack_pushed();
}

// During a trial every register is in use: only the stack pointer can lead back
// to the test's own stack, and to where the registers go.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".local stack_own",
    ".comm stack_own, 8, 8",
    ".macro stack_save",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    ".endm",
    ".macro stack_restore",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    ".endm",
    ".global stack_run, stack_back, stack_fill, stack_trial, stack_pushed",
    "stack_run:",
    "stack_save",
    "mov [rip + stack_own], rsp",
    "mov rsp, rdi",
    "mov rdi, rdx",
    "call rsi",
    "stack_back:",
    "mov rsp, [rip + stack_own]",
    "stack_restore",
    "ret",
    "stack_fill:",
    "mov rax, rsp",
    "mov rcx, 0x5a5a5a5a5a5a5a5a",
    "2: cmp rsp, rdi",
    "jbe 3f",
    "push rcx",
    "jmp 2b",
    "3: mov rsp, rax",
    "ret",
    "stack_trial:",
    "stack_save",
    "push rcx",
    "mov [rip + stack_own], rsp",
    "lea rsp, [rsi + rdx]",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovdqu ymm\\n, [rdi + {VECTORS} + 32 * \\n]",
    ".endr",
    "mov rax, [rdi]",
    "mov rbx, [rdi + 8]",
    "mov rcx, [rdi + 16]",
    "mov rdx, [rdi + 24]",
    "mov rsi, [rdi + 32]",
    "mov rbp, [rdi + 40]",
    ".irp n, 8, 9, 10, 11, 12, 13, 14, 15",
    "mov r\\n, [rdi + 8 * \\n]",
    ".endr",
    "mov rdi, [rdi + 48]",
    "push rax",
    "stack_pushed:",
    "mov rsp, [rip + stack_own]",
    // Its first word is where the registers go.
    "mov rsp, [rsp]",
    "mov [rsp], rax",
    "mov [rsp + 8], rbx",
    "mov [rsp + 16], rcx",
    "mov [rsp + 24], rdx",
    "mov [rsp + 32], rsi",
    "mov [rsp + 40], rbp",
    "mov [rsp + 48], rdi",
    ".irp n, 8, 9, 10, 11, 12, 13, 14, 15",
    "mov [rsp + 8 * \\n], r\\n",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "vmovdqu [rsp + {VECTORS} + 32 * \\n], ymm\\n",
    ".endr",
    "mov rsp, [rip + stack_own]",
    "vzeroupper",
    "pop rcx",
    "stack_restore",
    "ret",
    VECTORS = const VECTORS,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".local stack_own",
    ".comm stack_own, 8, 8",
    ".macro stack_save",
    "stp x19, x20, [sp, #-176]!",
    "stp x21, x22, [sp, #16]",
    "stp x23, x24, [sp, #32]",
    "stp x25, x26, [sp, #48]",
    "stp x27, x28, [sp, #64]",
    "stp x29, x30, [sp, #80]",
    "stp d8, d9, [sp, #96]",
    "stp d10, d11, [sp, #112]",
    "stp d12, d13, [sp, #128]",
    "stp d14, d15, [sp, #144]",
    "str x3, [sp, #160]",
    "adrp x9, stack_own",
    "mov x10, sp",
    "str x10, [x9, :lo12:stack_own]",
    ".endm",
    ".macro stack_restore",
    "adrp x9, stack_own",
    "ldr x9, [x9, :lo12:stack_own]",
    "mov sp, x9",
    "ldp x21, x22, [sp, #16]",
    "ldp x23, x24, [sp, #32]",
    "ldp x25, x26, [sp, #48]",
    "ldp x27, x28, [sp, #64]",
    "ldp x29, x30, [sp, #80]",
    "ldp d8, d9, [sp, #96]",
    "ldp d10, d11, [sp, #112]",
    "ldp d12, d13, [sp, #128]",
    "ldp d14, d15, [sp, #144]",
    "ldp x19, x20, [sp], #176",
    ".endm",
    ".global stack_run, stack_back, stack_fill, stack_trial, stack_pushed",
    "stack_run:",
    "stack_save",
    "mov sp, x0",
    "mov x0, x2",
    "blr x1",
    "stack_back:",
    "stack_restore",
    "ret",
    "stack_fill:",
    "mov x9, sp",
    "mov x10, #0x5a5a",
    "movk x10, #0x5a5a, lsl #16",
    "movk x10, #0x5a5a, lsl #32",
    "movk x10, #0x5a5a, lsl #48",
    "2: cmp sp, x0",
    "b.ls 3f",
    "stp x10, x10, [sp, #-16]!",
    "b 2b",
    "3: mov sp, x9",
    "ret",
    "stack_trial:",
    "stack_save",
    "add x1, x1, x2",
    "mov sp, x1",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "ldr q\\n, [x0, #({VECTORS} + 16 * \\n)]",
    ".endr",
    ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "ldr q\\n, [x0, #({VECTORS} + 16 * \\n)]",
    ".endr",
    ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18",
    "ldr x\\n, [x0, #(8 * \\n)]",
    ".endr",
    ".irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30",
    "ldr x\\n, [x0, #(8 * \\n)]",
    ".endr",
    "ldr x0, [x0]",
    "stp x0, x1, [sp, #-16]!",
    "stack_pushed:",
    // Two registers more than there are: these nobody uses at EL1t.
    "msr tpidr_el0, x0",
    "adrp x0, stack_own",
    "ldr x0, [x0, :lo12:stack_own]",
    "mov sp, x0",
    "ldr x0, [sp, #160]",
    ".irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18",
    "str x\\n, [x0, #(8 * \\n)]",
    ".endr",
    ".irp n, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30",
    "str x\\n, [x0, #(8 * \\n)]",
    ".endr",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "str q\\n, [x0, #({VECTORS} + 16 * \\n)]",
    ".endr",
    ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "str q\\n, [x0, #({VECTORS} + 16 * \\n)]",
    ".endr",
    "mrs x9, tpidr_el0",
    "str x9, [x0]",
    "stack_restore",
    "ret",
    VECTORS = const VECTORS,
);
