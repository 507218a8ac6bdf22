//! Modules with initial images of several sizes, written for the benchmark.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use crate::guests::Guest;
use crate::workspace;

const WASM_PAGE: usize = 1 << 16;

/// Names, and bytes that their images span.
const IMAGES: [(&str, usize); 3] = [("image-64k", WASM_PAGE), ("image-1m", 1 << 20), ("image-64m", 64 << 20)];

/// Writes all of them to the cache.
pub(super) fn write_all() -> Result<Vec<Guest>> {
    let place = workspace::cache("bench")?;
    let mut guests = Vec::new();
    for (name, span) in IMAGES {
        let module = place.join(format!("{name}.wat"));
        if !module.exists() {
            fs::write(&module, text(span)).with_context(|| format!("cannot write {}", module.display()))?;
        }
        guests.push(Guest { name: name.to_owned(), module });
    }
    Ok(guests)
}

/// A module with a memory of `span` bytes, whose image spans all of it and is data in its first half,
/// and what writes to as many pages as it is told.
fn text(span: usize) -> String {
    let pages = span / WASM_PAGE;
    let line = "the first half of the image: bytes that are not zero.  ........\n".replace('\n', "|");
    let mut text = format!("(module (memory (export \"memory\") {pages})\n(data (i32.const 0)\n");
    // More than half, as Wasmtime's rules want of large ones.
    for _ in 0..span / 2 / line.len() + 1 {
        let _ = writeln!(text, "\"{line}\"");
    }
    let last = span - 1;
    let _ = write!(
        text,
        ")
(data (i32.const {last}) \"!\")
;; Writes a byte in each of so many places, which are so many bytes apart.
(func (export \"touch\") (param $places i32) (param $apart i32) (local $at i32)
  (if (i32.eqz (local.get $places)) (then (return)))
  (loop $next
    (i32.store8 offset=8 (local.get $at) (i32.const 1))
    (local.set $at (i32.add (local.get $at) (local.get $apart)))
    (br_if $next (local.tee $places (i32.sub (local.get $places) (i32.const 1)))))))
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn the_first_half_is_data_and_so_is_the_last_byte() {
        let text = text(1 << 16);
        let data: usize = text.lines().filter(|line| line.starts_with('"')).map(|line| line.len() - 2).sum();
        assert!(data > 1 << 15 && data < (1 << 15) + 128);
        assert!(text.contains("(data (i32.const 65535) \"!\")"));
    }
}
