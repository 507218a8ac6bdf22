//! The local APIC: interrupts to the other CPUs (SDM Vol. 3A, chapter 12).
//!
//! By its registers in memory, as QEMU's emulated CPUs have no x2APIC.

use x86_64::{VirtAddr, instructions::port::Port};

/// Where the registers are, for each CPU its own.
pub const PHYSICAL: u64 = 0xfee0_0000;
/// Where [`crate::memory`] maps them: in the kernel's half.
pub const REGISTERS: VirtAddr = VirtAddr::new(0xffff_ffff_c000_0000);

const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;

/// In the spurious-interrupt register: on; with vector 255.
const ENABLED: u32 = 1 << 8 | 255;
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const TO_ALL_OTHERS: u32 = 0b11 << 18;

/// What all other CPUs can be sent.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// An ordinary interrupt.
    Interrupt(u8),
    /// Wait for `StartUp`.
    Init,
    /// Begin in real mode at this page of the first MiB.
    StartUp(u8),
}

/// Enables this CPU's APIC, and masks the interrupt controllers of old: their timer ticks on vector 8.
pub fn enable() {
    for mut mask in [Port::<u8>::new(0x21), Port::new(0xa1)] {
        // SAFETY: nobody waits for what is masked.
        unsafe { mask.write(0xff) };
    }
    write(SPURIOUS, ENABLED);
}

/// Sends to all CPUs but this one.
pub fn send_to_all_others(message: Message) {
    let message = match message {
        Message::Interrupt(vector) => u32::from(vector),
        Message::Init => 0b101 << 8,
        Message::StartUp(page) => 0b110 << 8 | u32::from(page),
    };
    write(COMMAND, message | ASSERT | TO_ALL_OTHERS);
    while read(COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
}

/// The interrupt that came is dealt with.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

fn read(register: u64) -> u32 {
    let register = (REGISTERS + register).as_ptr::<u32>();
    // SAFETY: a register of this CPU's APIC, mapped as a device's.
    unsafe { register.read_volatile() }
}

fn write(register: u64, value: u32) {
    let register = (REGISTERS + register).as_mut_ptr::<u32>();
    // SAFETY: as above; what is sent goes to CPUs that are prepared for it.
    unsafe { register.write_volatile(value) };
}
