//! Compiles each `guests/NAME.wat` to `NAME.wasm` in the build's own directory.

use std::{env, fs, path::Path};

fn main() {
    let guests = Path::new("guests");
    println!("cargo::rerun-if-changed={}", guests.display());
    let out = env::var_os("OUT_DIR").expect("cargo says where to write");
    for entry in fs::read_dir(guests).expect("guests/ lies beside build.rs") {
        let text = entry.expect("guests/ can be listed").path();
        let wasm = wat::parse_file(&text).unwrap_or_else(|error| panic!("{error}"));
        let name = Path::new(text.file_name().expect("a file has a name")).with_extension("wasm");
        fs::write(Path::new(&out).join(name), wasm).expect("OUT_DIR can be written");
    }
}
