//! What goes through standard input and output.

use std::{
    fs::File,
    io::{self, Read, Write},
};

use crate::Outcome;

pub(crate) fn cat(files: &[String]) -> Outcome {
    let mut out = io::stdout().lock();
    if files.is_empty() {
        io::copy(&mut io::stdin().lock(), &mut out)?;
    }
    for path in files {
        let mut file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        io::copy(&mut file, &mut out).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

pub(crate) fn wc(files: &[String]) -> Outcome {
    let bytes = input(files)?;
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
    let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
    println!("{lines} {words} {}", bytes.len());
    Ok(())
}

pub(crate) fn sort(files: &[String]) -> Outcome {
    let bytes = input(files)?;
    let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    lines.sort_unstable();
    let mut out = io::stdout().lock();
    for line in lines {
        out.write_all(line)?;
    }
    Ok(())
}

pub(crate) fn sum(files: &[String]) -> Outcome {
    let bytes = input(files)?;
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    println!("{hash:016x} {}", bytes.len());
    Ok(())
}

/// All of the file, or of standard input.
fn input(files: &[String]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match files.first() {
        Some(path) => File::open(path)?.read_to_end(&mut bytes)?,
        None => io::stdin().read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}
