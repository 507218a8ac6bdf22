//! Links the kernel with the script of `aarch64-rt`, as the flat image that QEMU boots as it does Linux:
//! with a device tree, and the module as initial RAM disk.

fn main() {
    println!("cargo:rustc-link-arg-bins=-Timage.ld");
    println!("cargo:rustc-link-arg-bins=-Tmemory.ld");
    println!("cargo:rustc-link-arg-bins=--oformat=binary");
    println!("cargo:rustc-link-search={}", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo:rerun-if-changed=memory.ld");
}
