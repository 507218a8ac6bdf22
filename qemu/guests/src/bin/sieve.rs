//! `sieve [LIMIT]`: counts the primes below a limit, by default 100 million, and checks itself.
//!
//! One byte for each odd number, in blocks of 1 MiB that are all kept: 48 MiB of memory for the default,
//! grown piece by piece. A second pass over all blocks counts twins, so that every page is read again.

use std::{env, process::ExitCode};

const BLOCK: usize = 1 << 20;

/// Known counts of primes and of twin primes below powers of ten.
const KNOWN: [(usize, usize, usize); 5] = [
    (1_000_000, 78_498, 8_169),
    (10_000_000, 664_579, 58_980),
    (20_000_000, 1_270_607, 107_407),
    (50_000_000, 3_001_134, 239_101),
    (100_000_000, 5_761_455, 440_312),
];

fn main() -> ExitCode {
    let limit = match env::args().nth(1).map(|limit| limit.parse()) {
        None => 100_000_000,
        Some(Ok(limit)) if limit >= 100 => limit,
        Some(_) => {
            eprintln!("usage: sieve [LIMIT], at least 100");
            return ExitCode::from(2);
        }
    };
    let blocks = sieve(limit);
    let (primes, twins) = count(&blocks, limit);
    let mebibytes = blocks.len() * (BLOCK >> 20);
    println!("sieve: {primes} primes and {twins} twins below {limit}, in {mebibytes} MiB");
    match KNOWN.iter().find(|known| known.0 == limit) {
        Some(&(_, right, right_twins)) if (primes, twins) != (right, right_twins) => {
            eprintln!("sieve: wrong, it is {right} primes and {right_twins} twins");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Byte `i` of all blocks stands for `2 * i + 1`; composite numbers are marked by 1.
fn sieve(limit: usize) -> Vec<Vec<u8>> {
    let root = limit.isqrt() + 1;
    let small: Vec<usize> = (3..=root).step_by(2).filter(|&n| is_prime(n)).collect();
    // Where each of them strikes next, by index.
    let mut next: Vec<usize> = small.iter().map(|&prime| prime * prime / 2).collect();
    let mut blocks = Vec::new();
    for start in (0..limit / 2).step_by(BLOCK) {
        let mut block = vec![0; BLOCK];
        if start == 0 {
            block[0] = 1;
        }
        for (prime, next) in small.iter().zip(&mut next) {
            let mut at = *next - start;
            while at < BLOCK {
                block[at] = 1;
                at += prime;
            }
            *next = start + at;
        }
        blocks.push(block);
    }
    blocks
}

fn is_prime(n: usize) -> bool {
    (3..=n.isqrt()).step_by(2).all(|divisor| !n.is_multiple_of(divisor))
}

/// Primes below `limit`, and pairs of them with a difference of two.
fn count(blocks: &[Vec<u8>], limit: usize) -> (usize, usize) {
    // Two is the one that is not odd.
    let (mut primes, mut twins) = (1, 0);
    let mut before = 1;
    for &mark in blocks.iter().flatten().take(limit / 2) {
        primes += usize::from(mark == 0);
        twins += usize::from(mark | before == 0);
        before = mark;
    }
    (primes, twins)
}
