//! The local APIC, as far as it sends interrupts to other CPUs, and ticks (SDM Vol. 3A, chapter 12).
//!
//! By its registers in memory: QEMU's emulated CPUs have no x2APIC. It stays disabled by software, as it is
//! after a reset, until somebody wants its timer: it then still sends, and takes what is sent here.

use core::ops::Range;

use crate::arch::cpu;
use crate::ranges::{PAGE, pointer};

/// Where the registers are after a reset, for each CPU its own.
pub(super) const REGISTERS: Range<u64> = 0xfee0_0000..0xfee0_0000 + PAGE;

const ID: u64 = 0x20;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const TIMER: u64 = 0x320;
const LINT0: u64 = 0x350;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

/// The spurious-interrupt register: on.
const ENABLED: u32 = 1 << 8;
/// An entry of the local vector table: nothing comes of it.
const MASKED: u32 = 1 << 16;
/// The divide register: by 1.
const BY_ONE: u32 = 0b1011;

/// Command: still being sent.
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const ALL_OTHERS: u32 = 0b11 << 18;

/// What can be sent.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Message {
    /// A non-maskable interrupt.
    Nmi = 0b100 << 8,
    /// Wait for `StartUp`, whatever you were doing.
    Init = 0b101 << 8,
    /// Start in real mode at page [`super::cpus::TRAMPOLINE`].
    StartUp = 0b110 << 8 | super::cpus::TRAMPOLINE >> 12,
}

/// How the timer counts.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum Count {
    /// Down to 0, and no interrupt.
    Once = MASKED,
    /// Again and again, an interrupt each time.
    Periodic = 1 << 17 | super::descriptors::TIMER_VECTOR,
}

/// Enables this CPU's APIC, with all but what is sent to it masked.
pub(super) fn enable() {
    write(LINT0, MASKED);
    write(SPURIOUS, ENABLED | super::descriptors::SPURIOUS_VECTOR);
    write(DIVIDE, BY_ONE);
}

/// Has the timer count down from here, or stops it with 0.
pub(super) fn count_down(from: u32, count: Count) {
    write(TIMER, count as u32);
    write(INITIAL_COUNT, from);
}

/// Where the timer is.
pub(super) fn counted_down() -> u32 {
    read(CURRENT_COUNT)
}

/// Says that the interrupt that came is dealt with.
pub(super) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// This CPU's own number among APICs.
pub(super) fn id() -> u32 {
    read(ID) >> 24
}

/// Sends to the CPU whose APIC has this number.
pub(super) fn send(message: Message, id: u32) {
    write(COMMAND_HIGH, id << 24);
    command(message as u32 | ASSERT);
}

/// Sends to all CPUs but this one, also to those that nobody has started.
pub(super) fn send_to_all_others(message: Message) {
    command(message as u32 | ASSERT | ALL_OTHERS);
}

fn command(word: u32) {
    write(COMMAND_LOW, word);
    while read(COMMAND_LOW) & PENDING != 0 {
        cpu::relax();
    }
}

fn read(register: u64) -> u32 {
    let register = pointer::<u32>(REGISTERS.start + register);
    // SAFETY: a register of this CPU's APIC, mapped as a device's; reading these has no effect.
    unsafe { register.read_volatile() }
}

fn write(register: u64, value: u32) {
    let register = pointer::<u32>(REGISTERS.start + register);
    // SAFETY: as above; what is sent goes to CPUs that are prepared for it, as `cpus` sees to.
    unsafe { register.write_volatile(value) };
}
