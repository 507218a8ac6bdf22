//! The interrupt controller (GICv2, IHI 0048), as far as one CPU ends another's `wfi` with it.
//!
//! Interrupts stay masked: one that is pending ends a `wfi` all the same, and is then taken from the
//! controller by hand. With another kind of controller, or none, CPUs that wait go round in a loop.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use aarch64_cpu::asm::{barrier, wfi};

use super::cpu;
use crate::cpus::MAX;
use crate::ranges::pointer;

/// Registers of the distributor: its control, own CPU's place, software interrupts.
const GICD_CTLR: u64 = 0x000;
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

/// Idles until an interrupt is pending, and takes it.
pub(super) fn wait(number: usize) {
    let Some(interface) = base(&INTERFACE).filter(|_| TARGETS[number].load(Ordering::Relaxed) != 0) else {
        return cpu::relax();
    };
    wfi();
    let interrupt = read(interface + GICC_IAR);
    if interrupt & 0x3ff < NONE {
        write(interface + GICC_EOIR, interrupt);
    }
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
    // SAFETY: as above. With interrupts masked none that comes does anything.
    unsafe { register.write_volatile(value) };
}
