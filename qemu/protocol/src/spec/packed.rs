//! Compiled modules without their zeros: on aarch64, where sections are aligned to 64 KiB, they are nearly all of it.

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// Shorter runs of zeros are left where they are.
const RUN: usize = 16;
/// The most bytes that are unpacked, so that damage asks for no more.
const MOST: usize = 1 << 30;

/// Bytes in which long runs of zeros are a number.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Packed<'a> {
    /// How many zeros, and the bytes behind them.
    #[serde(borrow)]
    runs: Vec<(u32, &'a [u8])>,
}

impl<'a> Packed<'a> {
    /// Packs `bytes`, fewer than 4 GiB of them.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let mut runs = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = rest.iter().take_while(|byte| **byte == 0).count();
            rest = &rest[zeros..];
            let bytes = &rest[..end(rest)];
            rest = &rest[bytes.len()..];
            runs.push((u32::try_from(zeros).unwrap_or(u32::MAX), bytes));
        }
        Self { runs }
    }

    /// All bytes.
    ///
    /// # Errors
    /// If they are more than 1 GiB.
    pub fn unpack(&self) -> Result<Vec<u8>, Damaged> {
        let most = |sum: usize, (zeros, bytes): &(u32, &[u8])| {
            sum.checked_add(*zeros as usize)?.checked_add(bytes.len()).filter(|sum| *sum <= MOST)
        };
        let length = self.runs.iter().try_fold(0, most).ok_or(Damaged)?;
        let mut all = Vec::with_capacity(length);
        for (zeros, bytes) in &self.runs {
            all.resize(all.len() + *zeros as usize, 0);
            all.extend_from_slice(bytes);
        }
        Ok(all)
    }
}

/// Where the next long run of zeros begins.
fn end(bytes: &[u8]) -> usize {
    bytes.windows(RUN).position(|window| window.iter().all(|byte| *byte == 0)).unwrap_or(bytes.len())
}

/// A module that would unpack to more than 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the module would have more than {MOST} bytes; the payload is damaged")
    }
}

impl core::error::Error for Damaged {}

#[cfg(test)]
mod tests {
    use super::{Damaged, Packed};

    #[test]
    fn bytes_come_back_and_zeros_take_no_room() {
        for (front, zeros, back) in
            [(0, 0, 0), (0, 5, 0), (3, 15, 3), (3, 16, 3), (1, 70_000, 0), (0, 70_000, 1)]
        {
            let bytes = [vec![1; front], vec![0; zeros], vec![2; back]].concat();
            let packed = Packed::new(&bytes);
            assert_eq!(packed.unpack(), Ok(bytes.clone()));
            let kept: usize = packed.runs.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(kept < 32, "{kept} bytes of {}", bytes.len());
        }
    }

    #[test]
    fn damage_does_not_ask_for_all_memory() {
        let packed = Packed { runs: vec![(u32::MAX, b"x"); 9] };
        assert_eq!(packed.unpack(), Err(Damaged));
    }
}
