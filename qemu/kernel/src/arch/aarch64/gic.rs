//! The interrupt controller (GICv2, IHI 0048), as far as one CPU ends another's `wfi` with it, and for the timer.
//!
//! Interrupts stay masked, but on a CPU that wants the timer's: one that is pending ends a `wfi` all the same, and is then taken from the
//! controller by hand. With another kind of controller, or none, CPUs that wait go round in a loop.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use aarch64_cpu::asm::{barrier, wfi};

use super::cpu;
use crate::cpus::MAX;
use crate::ranges::pointer;

/// Registers of the distributor: its control, enabled interrupts, own CPU's place, software interrupts.
const GICD_CTLR: u64 = 0x000;
const GICD_ISENABLER0: u64 = 0x100;
const GICD_ITARGETSR0: u64 = 0x800;
const GICD_SGIR: u64 = 0xf00;
/// Registers of the CPU's interface: its control, priorities let through, acknowledgement, end.
const GICC_CTLR: u64 = 0x00;
const GICC_PMR: u64 = 0x04;
const GICC_IAR: u64 = 0x0c;
const GICC_EOIR: u64 = 0x10;

const ENABLE: u32 = 1;
const ALL_PRIORITIES: u32 = 0xff;
/// GICC_IAR: from here on, no interrupt.
const NONE: u32 = 1020;

/// Where both sets of registers are, 0 if there is no such controller.
static DISTRIBUTOR: AtomicU64 = AtomicU64::new(0);
static INTERFACE: AtomicU64 = AtomicU64::new(0);

/// By CPU, the bit that stands for it in the distributor; 0 if it never waits in `wfi`.
static TARGETS: [AtomicU8; MAX] = [const { AtomicU8::new(0) }; MAX];

/// Uses the controller with these registers from now on.
///
/// # Safety
/// There is one, and the final map has its registers.
pub(super) unsafe fn init([distributor, interface]: [u64; 2]) {
    DISTRIBUTOR.store(distributor, Ordering::Relaxed);
    INTERFACE.store(interface, Ordering::Relaxed);
}

/// Lets the distributor pass interrupts on, once the final map is in force.
pub(super) fn start() {
    if let Some(distributor) = base(&DISTRIBUTOR) {
        write(distributor + GICD_CTLR, ENABLE);
    }
}

/// Lets interrupts come to this CPU.
pub(super) fn start_cpu(cpu: usize) {
    if let (Some(distributor), Some(interface)) = (base(&DISTRIBUTOR), base(&INTERFACE)) {
        // Of the first eight interrupts, each CPU reads that they go to itself.
        let [target, ..] = read(distributor + GICD_ITARGETSR0).to_le_bytes();
        write(interface + GICC_PMR, ALL_PRIORITIES);
        write(interface + GICC_CTLR, ENABLE);
        TARGETS[cpu].store(target, Ordering::Release);
    }
}

/// Lets one of the interrupts that each CPU has for itself come to this one; `false` if there is no such
/// controller.
pub(super) fn enable(interrupt: u32) -> bool {
    let Some(distributor) = base(&DISTRIBUTOR).filter(|_| base(&INTERFACE).is_some()) else { return false };
    start();
    start_cpu(crate::cpus::current());
    write(distributor + GICD_ISENABLER0, 1 << interrupt);
    true
}

/// Takes the interrupt that is pending from the controller and has `answer` deal with it, by its number.
///
/// In this order: one whose cause is gone before it is taken is pending no more, and nobody hears of it.
pub(super) fn take(answer: impl FnOnce(u32)) {
    let Some(interface) = base(&INTERFACE) else { return };
    let interrupt = read(interface + GICC_IAR);
    if interrupt & 0x3ff < NONE {
        answer(interrupt & 0x3ff);
        write(interface + GICC_EOIR, interrupt);
    }
}

/// Idles until an interrupt is pending, and takes it.
pub(super) fn wait(number: usize) {
    if TARGETS[number].load(Ordering::Relaxed) == 0 {
        return cpu::relax();
    }
    wfi();
    // Whichever it was, the caller looks for what it waits for.
    take(|_| {});
}

/// Sends software interrupt 0 to `cpu`.
pub(super) fn wake(cpu: usize) {
    let target = u32::from(TARGETS[cpu].load(Ordering::Acquire));
    if let Some(distributor) = base(&DISTRIBUTOR)
        && target != 0
    {
        barrier::dsb(barrier::ISHST); // what it is woken for, before the interrupt
        write(distributor + GICD_SGIR, target << 16);
    }
}

fn base(registers: &AtomicU64) -> Option<u64> {
    Some(registers.load(Ordering::Relaxed)).filter(|base| *base != 0)
}

fn read(register: u64) -> u32 {
    let register = pointer::<u32>(register);
    // SAFETY: a register of the controller that `init` was promised; reading takes an interrupt at most.
    unsafe { register.read_volatile() }
}

fn write(register: u64, value: u32) {
    let register = pointer::<u32>(register);
    // SAFETY: as above. Interrupts are masked, or the timer's and one that says nothing are all that come.
    unsafe { register.write_volatile(value) };
}
