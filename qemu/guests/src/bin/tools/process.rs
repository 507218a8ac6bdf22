//! What looks at the process and its machine: arguments, environment, time, stack, memory, the end.

use std::{
    collections::HashSet,
    env as environment,
    hash::{BuildHasher, RandomState},
    hint::black_box,
    process, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{Outcome, only};

pub(crate) fn args(_: &[String]) -> Outcome {
    for argument in environment::args() {
        println!("{argument}");
    }
    Ok(())
}

pub(crate) fn env(names: &[String]) -> Outcome {
    for (name, value) in environment::vars() {
        if names.is_empty() || names.contains(&name) {
            println!("{name}={value}");
        }
    }
    Ok(())
}

pub(crate) fn sleep(arguments: &[String]) -> Outcome {
    let asked = Duration::from_millis(only(arguments, "milliseconds")?.parse()?);
    let start = Instant::now();
    thread::sleep(asked);
    let slept = start.elapsed();
    if slept < asked {
        return Err(format!("slept {slept:?} instead of {asked:?}").into());
    }
    println!("slept");
    Ok(())
}

pub(crate) fn clock(_: &[String]) -> Outcome {
    let year = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 31_556_952 + 1970;
    if year < 2024 {
        return Err(format!("the year is {year}").into());
    }
    let (start, wall) = (Instant::now(), SystemTime::now());
    let mut last = start;
    for _ in 0..10_000 {
        let now = Instant::now();
        if now < last {
            return Err(format!("the clock went back by {:?}", last - now).into());
        }
        last = now;
    }
    thread::sleep(Duration::from_millis(20));
    let (by_clock, by_wall) = (start.elapsed(), wall.elapsed()?);
    if by_clock.abs_diff(by_wall) > by_clock / 2 {
        return Err(format!("the clocks differ: {by_clock:?} and {by_wall:?}").into());
    }
    println!("the clocks agree");
    Ok(())
}

pub(crate) fn random(_: &[String]) -> Outcome {
    // Each is seeded by the one before; the first by the system.
    let hash = RandomState::new().hash_one(0);
    let all: HashSet<u64> = (0..1000).map(|number| RandomState::new().hash_one(number)).collect();
    if all.len() < 1000 || hash == 0 {
        return Err("random numbers repeat".into());
    }
    println!("random");
    Ok(())
}

pub(crate) fn exit(arguments: &[String]) -> Outcome {
    let status = only(arguments, "a status")?.parse()?;
    print!("exiting with {status}");
    process::exit(status)
}

pub(crate) fn panic(arguments: &[String]) -> Outcome {
    panic!("{}", arguments.first().map_or("as told", String::as_str))
}

pub(crate) fn recurse(arguments: &[String]) -> Outcome {
    let depth = only(arguments, "a depth")?.parse()?;
    println!("{}", down(depth));
    Ok(())
}

/// The sum of the numbers up to `depth`, by a call each.
fn down(depth: u64) -> u64 {
    match black_box(depth) {
        0 => 0,
        depth => black_box(down(depth - 1)) + depth,
    }
}

pub(crate) fn allocate(arguments: &[String]) -> Outcome {
    let mebibytes: u8 = only(arguments, "a number of MiB")?.parse()?;
    let mut blocks: Vec<Vec<u8>> = (0..mebibytes).map(|number| vec![number; 1 << 20]).collect();
    for (number, block) in (0..mebibytes).zip(&mut blocks) {
        if block.iter().any(|&byte| byte != number) {
            return Err(format!("block {number} holds something else").into());
        }
        block.fill(!number);
    }
    let sum: u64 = blocks.iter().flatten().map(|&byte| u64::from(byte)).sum();
    println!("{mebibytes} MiB, sum {sum}");
    Ok(())
}
