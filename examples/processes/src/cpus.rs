//! The CPUs: how they start, what they wait for, how they interrupt each other.
//!
//! ```text
//!   CPU 0     start()   on_all(work) .... work(0) ...... returns
//!   CPU 1..   INIT, start-up -> idle ---- work(n) -- idle
//!
//!   any CPU   interrupt_others(work): an ordinary interrupt; returns when each other CPU has answered
//! ```

use core::{
    arch::asm,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};

use x86_64::{
    VirtAddr,
    instructions::{interrupts, port::Port},
    registers::model_specific::GsBase,
};

use crate::{apic, apic::Message, descriptors, memory};

/// How many there are: `qemu -smp 4`.
pub const COUNT: usize = 4;
/// Bytes of stack: wasm may use half a MiB.
pub const STACK_SIZE: usize = 1 << 20;

/// The interrupt that others are sent.
pub const VECTOR: u8 = 0xf0;

/// The page of the first MiB where CPUs begin: RAM on every PC.
const TRAMPOLINE: u8 = 8;

#[repr(C, align(16))]
pub struct Stacks([[u8; STACK_SIZE]; COUNT]);

/// `boot.s` gives each CPU its own.
pub static mut STACKS: Stacks = Stacks([[0; STACK_SIZE]; COUNT]);

/// What each CPU's `gs` points to: its number.
static NUMBERS: [usize; COUNT] = [0, 1, 2, 3];

static ONLINE: AtomicUsize = AtomicUsize::new(1);

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
}

/// Gives this CPU its number, and what it needs to take interrupts.
pub fn init(number: usize) {
    GsBase::write(VirtAddr::from_ptr(&raw const NUMBERS[number]));
    descriptors::load();
    apic::enable();
}

/// The CPU that runs this.
#[inline]
pub fn current() -> usize {
    let number: usize;
    // SAFETY: `gs` points to this CPU's number, which never changes.
    unsafe { asm!("mov {}, gs:[0]", out(reg) number, options(pure, readonly, nostack, preserves_flags)) };
    number
}

/// Starts the others (SDM Vol. 3A, 10.4.4.1), and returns when they wait for work.
pub fn start() {
    let code = &raw const trampoline;
    let length = (&raw const trampoline_end).addr() - code.addr();
    let physical = (memory::OFFSET + u64::from(TRAMPOLINE) * 4096) as usize;
    // SAFETY: the code is in the image, and the page is nobody's.
    unsafe { ptr::copy_nonoverlapping(mapped(code), ptr::with_exposed_provenance_mut(physical), length) };

    apic::send_to_all_others(Message::Init);
    pause(10_000);
    for _ in 0..2 {
        apic::send_to_all_others(Message::StartUp(TRAMPOLINE));
        pause(200);
    }
    for _ in 0..100 {
        if ONLINE.load(Ordering::Acquire) == COUNT {
            return;
        }
        pause(20_000);
    }
    panic!(
        "{} CPUs came, and this kernel is for {COUNT}: boot with `-smp {COUNT}`",
        ONLINE.load(Ordering::Acquire)
    );
}

/// Where the boot code is mapped beside its physical address.
fn mapped(boot: *const u8) -> *const u8 {
    ptr::with_exposed_provenance((memory::OFFSET + boot.addr() as u64) as usize)
}

/// A write to this port takes a microsecond on a PC.
fn pause(microseconds: usize) {
    for _ in 0..microseconds {
        // SAFETY: the port shows numbers on a diagnostic card, if anything.
        unsafe { Port::<u8>::new(0x80).write(0) };
    }
}

/// What all CPUs are to run, and how often there was such a thing.
static WORK: AtomicPtr<&'static (dyn Fn(usize) + Sync)> = AtomicPtr::new(ptr::null_mut());
static ROUND: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicUsize = AtomicUsize::new(0);

/// A CPU that was started: runs what `on_all` has for it, and halts in between.
pub fn idle() -> ! {
    let number = current();
    ONLINE.fetch_add(1, Ordering::Release);
    let mut seen = 0;
    loop {
        // Masked, so that an interrupt that comes after the look still ends the halt.
        interrupts::disable();
        let round = ROUND.load(Ordering::Acquire);
        if round == seen {
            interrupts::enable_and_hlt();
            continue;
        }
        seen = round;
        interrupts::enable();
        // SAFETY: `on_all` put it there before it began the round, and waits for us.
        let work = unsafe { *WORK.load(Ordering::Relaxed) };
        work(number);
        DONE.fetch_add(1, Ordering::Release);
    }
}

/// Runs `work` on every CPU, this one too, and returns when all have. CPU 0 only.
pub fn on_all(work: &(dyn Fn(usize) + Sync)) {
    DONE.store(0, Ordering::Relaxed);
    WORK.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
    ROUND.fetch_add(1, Ordering::Release);
    apic::send_to_all_others(Message::Interrupt(VECTOR));
    work(0);
    while DONE.load(Ordering::Acquire) < COUNT - 1 {
        core::hint::spin_loop();
    }
}

/// Runs `work` on one CPU, and returns when that has. On CPU 0 only.
pub fn on(cpu: usize, work: &(dyn Fn() + Sync)) {
    on_all(&|number| {
        if number == cpu {
            work();
        }
    });
}

/// What one CPU asks of the others.
struct Call {
    work: AtomicPtr<&'static (dyn Fn() + Sync)>,
    /// A bit for each CPU that has not answered.
    unanswered: AtomicUsize,
}

/// By the CPU that asks.
static CALLS: [Call; COUNT] =
    [const { Call { work: AtomicPtr::new(ptr::null_mut()), unanswered: AtomicUsize::new(0) } }; COUNT];

/// By CPU, how often it has answered.
static ANSWERS: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

/// Runs `work` on every other CPU, in an interrupt, and returns when all have.
///
/// Interrupts must be on: two CPUs that ask each other answer while they wait.
pub fn interrupt_others(work: &(dyn Fn() + Sync)) {
    assert!(interrupts::are_enabled(), "a CPU that is deaf asks others: turn interrupts on for the call");
    let me = current();
    let Call { work: place, unanswered } = &CALLS[me];
    place.store((&raw const work).cast_mut().cast(), Ordering::Relaxed);
    unanswered.store(((1 << ONLINE.load(Ordering::Acquire)) - 1) & !(1 << me), Ordering::SeqCst);
    apic::send_to_all_others(Message::Interrupt(VECTOR));
    while unanswered.load(Ordering::Acquire) != 0 {
        core::hint::spin_loop();
    }
}

/// The interrupt: answers all that ask. (Two that arrive together become one.)
pub fn answer() {
    // First, so that a call that is seen below by chance, and one that is not, each have their interrupt.
    apic::end_of_interrupt();
    let me = current();
    for Call { work, unanswered } in &CALLS {
        if unanswered.load(Ordering::SeqCst) & 1 << me != 0 {
            // SAFETY: `interrupt_others` put it there before it set our bit, and waits until we clear that.
            let work = unsafe { *work.load(Ordering::Relaxed) };
            work();
            ANSWERS[me].fetch_add(1, Ordering::Relaxed);
            unanswered.fetch_and(!(1 << me), Ordering::Release);
        }
    }
}

/// How many CPUs have answered others.
pub fn answered() -> usize {
    ANSWERS.iter().filter(|answers| answers.load(Ordering::Relaxed) > 0).count()
}
