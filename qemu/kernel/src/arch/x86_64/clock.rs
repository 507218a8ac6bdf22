//! The time stamp counter, measured against the PIT, and the real-time clock.

use core::arch::x86_64::_rdtsc;

use spin::Once;
use spin::mutex::TicketMutex;
use x86_64::instructions::port::Port;

/// The PIT's ticks a second.
const PIT_FREQUENCY: u64 = 1_193_182;

/// How long one measurement takes, in ticks of the PIT: two milliseconds.
const MEASURED: u16 = 2_400;

/// Measurements made; the one that was disturbed least counts.
const MEASUREMENTS: usize = 3;

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Bit 0 lets channel 2 count, bit 1 sends it to the speaker.
const GATE: u16 = 0x61;

/// The counter.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: the boot code checked that the CPU has a TSC.
    unsafe { _rdtsc() }
}

/// Instructions under `-icount shift=0`, where the TSC counts nanoseconds and each instruction takes one.
#[inline]
pub(crate) fn instructions() -> u64 {
    ticks()
}

/// [`instructions`] since the kernel's first one.
pub(crate) fn since_entry() -> u64 {
    unsafe extern "C" {
        static boot_entry_ticks: u64;
    }
    // SAFETY: boot code wrote it once, before any of this ran.
    instructions() - unsafe { boot_entry_ticks }
}

/// Ticks a second, measured the first time.
pub(crate) fn frequency() -> u64 {
    static FREQUENCY: Once<u64> = Once::new();
    *FREQUENCY.call_once(|| {
        let best = (0..MEASUREMENTS).map(|_| measure()).min_by_key(|measured| measured.uncertain);
        best.map_or(1, |best| (best.ticks * PIT_FREQUENCY / u64::from(best.pit)).max(1))
    })
}

struct Measured {
    ticks: u64,
    pit: u16,
    /// In how many ticks the two readings of the PIT fell.
    uncertain: u64,
}

fn measure() -> Measured {
    let gate = input(GATE);
    output(GATE, gate & !2 | 1);
    // Channel 2, low byte then high byte, mode 0: counts down once from the start value.
    output(PIT_COMMAND, 0b1011_0000);
    output(PIT_CHANNEL_2, 0xff);
    output(PIT_CHANNEL_2, 0xff);
    let start = read_pit();
    let mut end = read_pit();
    // Bounded, for a machine without a PIT, whose ports read as ones.
    for _ in 0..1_000_000 {
        end = read_pit();
        if start.count.wrapping_sub(end.count) >= MEASURED {
            break;
        }
    }
    output(GATE, gate);
    Measured {
        ticks: end.ticks - start.ticks,
        pit: start.count.wrapping_sub(end.count).max(1),
        uncertain: start.uncertain + end.uncertain,
    }
}

/// A reading of the PIT: the counter's value at the TSC's `ticks`, give or take.
struct Reading {
    count: u16,
    ticks: u64,
    uncertain: u64,
}

fn read_pit() -> Reading {
    let before = ticks();
    // Latch channel 2.
    output(PIT_COMMAND, 0b1000_0000);
    let after = ticks();
    let count = u16::from_le_bytes([input(PIT_CHANNEL_2), input(PIT_CHANNEL_2)]);
    Reading { count, ticks: before.midpoint(after), uncertain: after - before }
}

/// Seconds since 1970 by the real-time clock (MC146818), which QEMU keeps in UTC.
pub(crate) fn wall_clock_seconds() -> Option<u64> {
    // A register is chosen with one access and read with another.
    static CLOCK: TicketMutex<()> = TicketMutex::new(());
    let _guard = CLOCK.lock();
    // Registers change together once a second: two equal readings were not torn by that.
    let mut time = read_rtc();
    for _ in 0..4 {
        let again = read_rtc();
        if again == time {
            return seconds_since_1970(time);
        }
        time = again;
    }
    None
}

/// Second, minute, hour, day, month, year, century, and the status register that says how they are written.
type Rtc = [u8; 8];

fn read_rtc() -> Rtc {
    [0, 2, 4, 7, 8, 9, 0x32, 0xb].map(|register| {
        output(0x70, register);
        input(0x71)
    })
}

fn seconds_since_1970([second, minute, hour, day, month, year, century, status]: Rtc) -> Option<u64> {
    const BINARY: u8 = 1 << 2;
    const HOURS_24: u8 = 1 << 1;
    const AFTERNOON: u8 = 1 << 7;
    let decode =
        |byte: u8| u64::from(if status & BINARY != 0 { byte } else { (byte >> 4) * 10 + (byte & 0xf) });
    let mut hours = decode(hour & !AFTERNOON);
    if status & HOURS_24 == 0 {
        hours = hours % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 };
    }
    let century = decode(century);
    let year = decode(year) + if (19..=99).contains(&century) { century * 100 } else { 2000 };
    let (month, day) = (decode(month), decode(day));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Days before a year that starts in March, so that the leap day is the last one.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468;
    Some((((days - DAYS_TO_1970) * 24 + hours) * 60 + decode(minute)) * 60 + decode(second))
}

fn output(port: u16, value: u8) {
    // SAFETY: the PIT's, its gate's and the clock's ports touch no memory, and no interrupt is on.
    unsafe { Port::new(port).write(value) };
}

fn input(port: u16) -> u8 {
    // SAFETY: as in `output`.
    unsafe { Port::new(port).read() }
}
