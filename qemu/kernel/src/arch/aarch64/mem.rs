//! `memcpy`, `memmove`, `memset`, `memcmp` and `bcmp`, stronger than the byte loops of
//! `compiler_builtins`: Wasmtime and page copies call them often enough to decide its figures.

core::arch::global_asm!(include_str!("mem.s"));
