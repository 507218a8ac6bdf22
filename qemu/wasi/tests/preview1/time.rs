//! Clocks and waiting.

use crate::support::{BUFFER, EPOCH, Guest, Machine, RESULT, errno, program};

const R: i64 = RESULT as i64;
const BUF: i64 = BUFFER as i64;
const EVENTS: u32 = BUFFER + 0x8000;
const EV: i64 = EVENTS as i64;

const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;

#[test]
fn clocks_tell_the_time() {
    let mut guest = Guest::with(Machine { now: 77, ..Default::default() }, program());
    assert_eq!(guest.call("clock_time_get", &[0, 0, R]), 0);
    assert_eq!(guest.u64(RESULT), EPOCH + 77);
    assert_eq!(guest.call("clock_time_get", &[1, -1, R]), 0);
    assert_eq!(guest.u64(RESULT), 77);
    assert_eq!(guest.call("clock_res_get", &[1, R]), 0);
    assert_eq!(guest.u64(RESULT), 100);
    // As Wasmtime: there is no processor time.
    for (clock, errno) in [(2, errno::BADF), (3, errno::BADF), (4, errno::INVAL), (-1, errno::INVAL)] {
        assert_eq!(guest.call("clock_time_get", &[clock, 0, R]), errno);
        assert_eq!(guest.call("clock_res_get", &[clock, R]), errno);
    }
}

fn clock(id: u32, time: u64, flags: u16) -> [u8; 48] {
    let mut subscription = [0; 48];
    subscription[0..8].copy_from_slice(&(time ^ 0xabcd).to_le_bytes());
    subscription[16..20].copy_from_slice(&id.to_le_bytes());
    subscription[24..32].copy_from_slice(&time.to_le_bytes());
    subscription[40..42].copy_from_slice(&flags.to_le_bytes());
    subscription
}

fn descriptor(kind: u8, fd: u32) -> [u8; 48] {
    let mut subscription = [0; 48];
    subscription[0] = 0xee;
    subscription[8] = kind;
    subscription[16..20].copy_from_slice(&fd.to_le_bytes());
    subscription
}

/// Polls and returns what happened: user data, kind, bytes, flags.
fn poll(guest: &mut Guest, subscriptions: &[[u8; 48]]) -> Result<Vec<(u64, u8, u64, u16)>, i32> {
    guest.put(BUFFER, subscriptions.as_flattened());
    let count = i64::try_from(subscriptions.len()).unwrap();
    match guest.call("poll_oneoff", &[BUF, EV, count, R]) {
        0 => Ok((0..guest.u32(RESULT))
            .map(|index| EVENTS + 32 * index)
            .inspect(|&event| assert_eq!(guest.u16(event + 8), 0))
            .map(|event| {
                (guest.u64(event), guest.get(event + 10, 1)[0], guest.u64(event + 16), guest.u16(event + 24))
            })
            .collect()),
        errno => Err(errno),
    }
}

#[test]
fn a_program_sleeps_until_the_earliest_clock() {
    let mut guest = Guest::with(Machine { now: 1000, ..Default::default() }, program());
    let woken = poll(&mut guest, &[clock(MONOTONIC, 500, 0)]).unwrap();
    assert_eq!(woken, [(500 ^ 0xabcd, 0, 0, 0)]);
    assert_eq!(guest.machine().now, 1500);

    // Relative, absolute, in the past, by the other clock.
    assert_eq!(poll(&mut guest, &[clock(MONOTONIC, 1800, 1)]).unwrap().len(), 1);
    assert_eq!(guest.machine().now, 1800);
    assert_eq!(poll(&mut guest, &[clock(REALTIME, EPOCH + 2000, 1)]).unwrap().len(), 1);
    assert_eq!(guest.machine().now, 2000);
    assert_eq!(poll(&mut guest, &[clock(REALTIME, 100, 0)]).unwrap().len(), 1);
    assert_eq!(guest.machine().now, 2100);
    for past in [clock(MONOTONIC, 5, 1), clock(REALTIME, 5, 1), clock(MONOTONIC, 0, 0)] {
        assert_eq!(poll(&mut guest, &[past]).unwrap().len(), 1);
        assert_eq!(guest.machine().now, 2100);
    }

    // Only those that are over happened.
    let several = [clock(MONOTONIC, 90, 0), clock(MONOTONIC, 50, 0), clock(MONOTONIC, 2150, 1)];
    let woken = poll(&mut guest, &several).unwrap();
    assert_eq!(woken.iter().map(|event| event.0 ^ 0xabcd).collect::<Vec<_>>(), [50, 2150]);
    assert_eq!(guest.machine().slept, [1500, 1800, 2000, 2100, 2150]);
}

#[test]
fn times_beyond_the_end_of_time_do_not_wrap() {
    let mut guest = Guest::with(Machine { now: 1000, ..Default::default() }, program());
    let forever = [clock(MONOTONIC, u64::MAX, 0), clock(MONOTONIC, 10, 0)];
    assert_eq!(poll(&mut guest, &forever).unwrap().len(), 1);
    assert_eq!(guest.machine().now, 1010);
}

#[test]
fn files_and_streams_are_ready() {
    let mut guest = Guest::new();
    let file = u32::try_from(guest.open("hello.txt").unwrap()).unwrap();
    let empty = u32::try_from(guest.open("empty").unwrap()).unwrap();
    let ready = [
        clock(MONOTONIC, 1_000_000, 0),
        descriptor(1, 0),
        descriptor(2, 1),
        descriptor(2, 2),
        descriptor(1, file),
        descriptor(2, file),
        descriptor(1, empty),
    ];
    let happened = poll(&mut guest, &ready).unwrap();
    let expected = [(1, 0), (2, 0), (2, 0), (1, 0), (2, 0), (1, 1)];
    assert_eq!(happened, expected.map(|(kind, hangup)| (0xee, kind, 1, hangup)));
    assert!(guest.machine().slept.is_empty());
    for bad in
        [descriptor(1, 1), descriptor(2, 0), descriptor(1, 3), descriptor(2, 99), descriptor(1, u32::MAX)]
    {
        assert_eq!(poll(&mut guest, &[bad]), Err(errno::BADF));
    }
    for bad in [descriptor(3, 0), clock(2, 1, 0), clock(9, 1, 0), clock(1, 1, 2)] {
        assert_eq!(poll(&mut guest, &[bad]), Err(errno::INVAL));
    }
    assert_eq!(poll(&mut guest, &[]), Err(errno::INVAL));
    assert_eq!(guest.call("poll_oneoff", &[BUF, EV, 0x1000_0000, R]), errno::FAULT);
}

#[test]
fn events_may_lie_over_subscriptions() {
    let mut guest = Guest::new();
    guest.put(BUFFER, &clock(MONOTONIC, 5, 0));
    assert_eq!(guest.call("poll_oneoff", &[BUF, BUF, 1, R]), 0);
    assert_eq!(guest.u64(BUFFER), 5 ^ 0xabcd);
}
