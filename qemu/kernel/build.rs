//! Hands the boot kernel's linker script to the linker of whatever is linked with it. As a library,
//! since arguments for the linker would concern this package alone: a linker takes a script
//! wherever it expects one. (In `.cargo/config.toml` it would concern every kernel below.)

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if of_target("OS") != "none" {
        return;
    }
    let package = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let (scripts, script) = (format!("{package}/../../linker"), format!("{}.ld", of_target("ARCH")));
    println!("cargo::rerun-if-changed={scripts}/{script}");
    println!("cargo::rustc-link-search=native={scripts}");
    println!("cargo::rustc-link-lib=dylib:+verbatim={script}");
}
