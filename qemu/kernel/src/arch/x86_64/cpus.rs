//! CPUs 1 and up: their start, their waiting, their interrupts.

use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use x86_64::registers::control::{Cr0, Cr3, Cr4, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::xcontrol::XCr0;

use super::apic::{self, Message};
use super::descriptors;
use crate::cpus::MAX;
use crate::ranges::pointer;
use crate::{Frame, clock, cpus, stack};

const KIB: u64 = 1024;

/// What each CPU but the first runs on; the latter three in the order of the interrupt stack table.
pub(crate) const STACKS: [(&str, u64); 4] =
    [("main", 1024 * KIB), ("exception", 64 * KIB), ("double fault", 64 * KIB), ("interruption", 64 * KIB)];

/// The page in which CPUs start: of the first MiB, which `map::usable` leaves alone.
pub(super) const TRAMPOLINE: u32 = 0x8000;

/// What a CPU finds out of CPU 0, and its place.
#[repr(C)]
struct Handoff {
    cr0: AtomicU64,
    cr3: AtomicU64,
    cr4: AtomicU64,
    efer: AtomicU64,
    pat: AtomicU64,
    xcr0: AtomicU64,
    /// The number of the next CPU that comes.
    next: AtomicU64,
    /// The first number that is not wanted.
    end: AtomicU64,
    stacks: [AtomicU64; MAX],
}

static HANDOFF: Handoff = Handoff {
    cr0: AtomicU64::new(0),
    cr3: AtomicU64::new(0),
    cr4: AtomicU64::new(0),
    efer: AtomicU64::new(0),
    pat: AtomicU64::new(0),
    xcr0: AtomicU64::new(0),
    next: AtomicU64::new(1),
    end: AtomicU64::new(1),
    stacks: [const { AtomicU64::new(0) }; MAX],
};

global_asm!(
    include_str!("cpus.s"),
    HANDOFF = sym HANDOFF,
    CR0 = const offset_of!(Handoff, cr0),
    CR3 = const offset_of!(Handoff, cr3),
    CR4 = const offset_of!(Handoff, cr4),
    EFER = const offset_of!(Handoff, efer),
    PAT = const offset_of!(Handoff, pat),
    XCR0 = const offset_of!(Handoff, xcr0),
    NEXT = const offset_of!(Handoff, next),
    END = const offset_of!(Handoff, end),
    STACKS = const offset_of!(Handoff, stacks),
    OWN = sym CPUS_OWN,
);

unsafe extern "C" {
    static cpus_trampoline: u8;
    static cpus_trampoline_end: u8;
    /// Halts until an interrupt comes, unless the value is set.
    fn cpus_wait(until: &AtomicBool);
    static cpus_wait_end: u8;
}

/// What a CPU knows of itself. Its `gs` points there.
#[repr(C)]
struct Own {
    number: usize,
    /// What the exception that is being answered has interrupted.
    interrupted: AtomicPtr<Frame>,
}

// `boot.s` and `cpus.s` make the pointers, so that they are there for the first fault.
const _: () = assert!(size_of::<Own>() == 16);
// `vectors.s` and `mem.s` look there.
const _: () = assert!(offset_of!(Own, interrupted) == 8);

#[unsafe(no_mangle)]
static CPUS_OWN: [Own; MAX] = {
    let mut own = [const { Own { number: 0, interrupted: AtomicPtr::new(null_mut()) } }; MAX];
    let mut number = 0;
    while number < MAX {
        own[number].number = number;
        number += 1;
    }
    own
};

/// By CPU, its APIC's number.
static APICS: [AtomicU32; MAX] = [const { AtomicU32::new(0) }; MAX];

/// The CPU that this runs on.
#[inline]
pub(crate) fn current() -> usize {
    let number: usize;
    // SAFETY: loads what `gs` of every CPU points to from its start on, which never changes.
    unsafe { asm!("mov {}, gs:[0]", out(reg) number, options(pure, readonly, nostack, preserves_flags)) };
    // SAFETY: `CPUS_OWN` has no others.
    unsafe { core::hint::assert_unchecked(number < MAX) };
    number
}

/// What the exception that this CPU is answering has interrupted, null if there is none.
#[inline]
pub(crate) fn interrupted() -> *mut Frame {
    let frame;
    // SAFETY: loads `Own::interrupted`.
    unsafe {
        asm!("mov {}, gs:[{at}]", out(reg) frame, at = const offset_of!(Own, interrupted),
            options(readonly, nostack, preserves_flags));
    }
    frame
}

/// Sets what [`interrupted`] says.
#[inline]
pub(crate) fn set_interrupted(frame: *mut Frame) {
    // SAFETY: stores `Own::interrupted`.
    unsafe {
        asm!("mov gs:[{at}], {}", in(reg) frame, at = const offset_of!(Own, interrupted),
            options(nostack, preserves_flags));
    }
}

/// Has [`interrupted`] say null, in one instruction.
#[inline]
pub(crate) fn clear_interrupted() {
    // SAFETY: stores `Own::interrupted`.
    unsafe {
        asm!("mov qword ptr gs:[{at}], 0", at = const offset_of!(Own, interrupted),
            options(nostack, preserves_flags));
    }
}

/// Starts CPUs `1..cpus`, which come to [`cpus::run`] in time.
pub(crate) fn start(cpus: usize) {
    const PAT: u32 = 0x277;
    APICS[0].store(apic::id(), Ordering::Relaxed);
    let root = Cr3::read_raw();
    let handoff = [
        (&HANDOFF.cr0, Cr0::read_raw()),
        (&HANDOFF.cr3, root.0.start_address().as_u64() | u64::from(root.1)),
        (&HANDOFF.cr4, Cr4::read_raw()),
        // What says that 64-bit mode is on cannot be written.
        (&HANDOFF.efer, Efer::read_raw() & !EferFlags::LONG_MODE_ACTIVE.bits()),
        (&HANDOFF.xcr0, XCr0::read_raw()),
        // SAFETY: a register that every CPU with 64-bit mode has.
        (&HANDOFF.pat, unsafe { Msr::new(PAT).read() }),
        (&HANDOFF.end, cpus as u64),
    ];
    for (place, value) in handoff {
        place.store(value, Ordering::Relaxed);
    }
    for cpu in 1..cpus {
        let [main, ..] = stack::tops_of(cpu);
        HANDOFF.stacks[cpu].store(main, Ordering::Relaxed);
    }
    let code = &raw const cpus_trampoline;
    let length = (&raw const cpus_trampoline_end).addr() - code.addr();
    // SAFETY: the page is RAM on every PC, mapped writable, and of no use to anybody once boot code is through.
    unsafe { code.copy_to_nonoverlapping(pointer(TRAMPOLINE.into()), length) };

    // SDM Vol. 3A, 10.4.4.1. All at once, as who knows their APICs' numbers? They tell when they are there.
    apic::send_to_all_others(Message::Init);
    pause(10_000_000);
    apic::send_to_all_others(Message::StartUp);
    pause(200_000);
    apic::send_to_all_others(Message::StartUp);
}

fn pause(nanoseconds: u64) {
    let begin = clock::monotonic_ns();
    while clock::monotonic_ns() - begin < nanoseconds {
        crate::arch::cpu::relax();
    }
}

/// Where `cpus.s` ends, on the CPU's own stack.
#[unsafe(no_mangle)]
extern "C" fn cpus_entry(cpu: usize) -> ! {
    let [_main, exceptions @ ..] = stack::tops_of(cpu);
    descriptors::load(cpu, exceptions);
    APICS[cpu].store(apic::id(), Ordering::Relaxed);
    cpus::run(cpu)
}

/// Waits, more or less until the value is set.
pub(crate) fn wait(until: &AtomicBool) {
    admit();
    // SAFETY: reads the value and halts. Interrupts come, and find all as they need it.
    unsafe { cpus_wait(until) };
}

/// Where an interrupt that came at `pc` returns to.
pub(super) fn after_interrupt(pc: u64) -> u64 {
    let start = cpus_wait as *const () as u64;
    let end = (&raw const cpus_wait_end).addr() as u64;
    if (start..end).contains(&pc) { end } else { pc }
}

/// Admits non-maskable interrupts.
///
/// The `iretq` with which the last one's handler ended has done that already (SDM Vol. 3A, 7.7.1). The
/// emulated CPU of QEMU 7.2 was seen to go on without: one more waited, masked, at a CPU that ran on, and would have waited
/// for the next exception. A CPU that waits for others has none, so it executes one more `iretq`, to itself.
#[inline]
pub(crate) fn admit() {
    // SAFETY: goes on at the label with the stack, the flags and the segments of now; nothing is left on the stack.
    unsafe {
        asm!(
            "mov {stack}, rsp",
            "mov {word:e}, ss",
            "push {word}",
            "push {stack}",
            "pushfq",
            "mov {word:e}, cs",
            "push {word}",
            "lea {word}, [rip + 2f]",
            "push {word}",
            "iretq",
            "2:",
            stack = out(reg) _,
            word = out(reg) _,
        );
    }
}

/// Ends the waiting of `cpu`.
pub(crate) fn wake(cpu: usize) {
    interrupt(cpu);
}

/// Has `cpu` call [`cpus::answer`], whatever it is doing.
pub(crate) fn interrupt(cpu: usize) {
    apic::send(Message::Nmi, APICS[cpu].load(Ordering::Relaxed));
}
