//! Nothing: only what is depended on is wanted.
#![no_std]
