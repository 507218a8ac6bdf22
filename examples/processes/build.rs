//! The linker script, by its place in this package: it can be copied anywhere.

fn main() {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    println!("cargo::rustc-link-arg-bins=-T{package}/kernel.ld");
    println!("cargo::rerun-if-changed=kernel.ld");
}
