//! Wasmtime's declarations of what it asks of a platform, beside our definitions: a linker
//! compares names only. Host only, as it reads both sources.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
harness::tests! {}

#[cfg(not(target_os = "none"))]
harness::tests! {
    fn every_declaration_has_a_definition_of_the_same_type() {
        host::same_types();
    }

    fn flags_and_handler_are_what_wasmtime_passes() {
        host::flags_and_handler();
    }

    fn the_supported_version_is_the_one_that_is_used() {
        host::version();
    }

    fn declarations_that_differ_are_found() {
        host::differences();
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

    /// Wasmtime switches fibers by itself on both architectures.
    const NOT_OURS: [&str; 2] = ["wasmtime_fiber_init", "wasmtime_fiber_switch"];

    /// A function's arguments and result, without names and spaces.
    type Functions = BTreeMap<String, String>;

    pub(crate) fn same_types() {
        let mut declared = functions(&declarations());
        for name in NOT_OURS {
            declared.remove(name).unwrap_or_else(|| panic!("{name} is not declared any more"));
        }
        assert!(declared.len() >= 19, "only {} declarations were understood", declared.len());
        let defined = definitions();
        for (name, declared) in &declared {
            let defined = defined.get(name).unwrap_or_else(|| panic!("{name} is declared, and not defined"));
            assert_eq!(declared, defined, "{name} is declared otherwise than it is defined");
        }
        let unknown: Vec<_> = defined.keys().filter(|name| !declared.contains_key(*name)).collect();
        assert!(unknown.is_empty(), "defined, and not declared any more: {unknown:?}");
    }

    pub(crate) fn flags_and_handler() {
        let text = declarations();
        for (name, bit) in [("READ", 0), ("WRITE", 1), ("EXEC", 2)] {
            let constant = format!("pub const WASMTIME_PROT_{name}: u32 = 1 << {bit};");
            assert!(text.contains(&constant), "no longer: {constant}");
        }
        let handler = "extern\"C\"fn(ip:usize,fp:usize,has_faulting_addr:bool,faulting_addr:usize);";
        let declared = format!("pubtypewasmtime_trap_handler_t={handler}");
        assert!(compact(&text).contains(&declared), "the trap handler has another type");
        let ours = compact(&ours("traps.rs"));
        assert!(ours.contains(&format!("pubtypeTrapHandler={handler}")), "ours has another type");
    }

    pub(crate) fn version() {
        let (version, _) = wasmtime();
        let major = version.split('.').next().unwrap_or_default();
        let stated = format!("Wasmtime {major}");
        for place in ["README.md", "src/wasmtime/mod.rs", "src/wasmtime/symbols.rs"] {
            let text = fs::read_to_string(root().join(place)).unwrap();
            assert!(text.contains(&stated), "{place} does not say `{stated}`, which Cargo.lock has");
        }
    }

    /// What this test is for: each of these is a difference.
    pub(crate) fn differences() {
        let of = |text: &str| functions(text).remove("wasmtime_f");
        let one = of("pub fn wasmtime_f(size: usize, ret: &mut *mut u8) -> i32;");
        assert_eq!(one.as_deref(), Some("(usize,&mut*mutu8)->i32"));
        assert_eq!(one, of("unsafe extern \"C\" fn wasmtime_f(a: usize,\n ret: &mut *mut u8,\n) -> i32 {"));
        for other in [
            "pub fn wasmtime_f(size: u32, ret: &mut *mut u8) -> i32;",
            "pub fn wasmtime_f(size: usize, ret: &mut *mut u8);",
            "pub fn wasmtime_f(size: usize, ret: &mut *mut u8, more: usize) -> i32;",
            "pub fn wasmtime_g(size: usize, ret: &mut *mut u8) -> i32;",
        ] {
            assert_ne!(one, of(other), "{other}");
        }
        assert_eq!(of("// fn wasmtime_f(size: usize);"), None);
    }

    fn declarations() -> String {
        let (_, package) = wasmtime();
        let file = package.join("src/runtime/vm/sys/custom/capi.rs");
        fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("{}: {error}; where are the declarations in this version?", file.display())
        })
    }

    fn definitions() -> Functions {
        let mut found = functions(&ours("symbols.rs"));
        let sync = ours("sync.rs");
        // A macro writes most of the locks': `symbol: type => method;`, each of a lock.
        for line in sync.lines().filter(|line| line.contains(" => ")) {
            if let Some((name, _)) =
                line.trim().split_once(':').filter(|(name, _)| name.starts_with("wasmtime_"))
            {
                found.insert(name.to_string(), "(*mutusize)".to_string());
            }
        }
        assert!(
            compact(&sync).contains("unsafeextern\"C\"fn$symbol(lock:*mutusize){"),
            "another type of lock"
        );
        found.extend(functions(&sync));
        found
    }

    fn ours(file: &str) -> String {
        fs::read_to_string(root().join("src/wasmtime").join(file)).unwrap()
    }

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    /// Version and directory of the Wasmtime that the workspace uses.
    fn wasmtime() -> (String, PathBuf) {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
            .arg(root().join("Cargo.toml"))
            .output()
            .expect("cargo is there, as it runs the tests");
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata = String::from_utf8(output.stdout).unwrap();
        let (_, package) = metadata
            .split_once(r#""name":"wasmtime","version":""#)
            .expect("the workspace depends on wasmtime");
        let (version, rest) = package.split_once('"').unwrap();
        let (_, manifest) = rest.split_once(r#""manifest_path":""#).unwrap();
        let manifest = PathBuf::from(manifest.split('"').next().unwrap().replace(r"\\", r"\"));
        (version.to_string(), manifest.parent().unwrap().to_path_buf())
    }

    /// The functions of a Rust source whose names begin with `wasmtime_`.
    fn functions(source: &str) -> Functions {
        let code: Vec<_> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        let mut found = Functions::new();
        for part in code.split("fn wasmtime_").skip(1) {
            let end = part.find([';', '{']).unwrap_or(part.len());
            let Some((name, signature)) = part[..end].split_once('(') else { continue };
            let Some((arguments, result)) = signature.rsplit_once(')') else { continue };
            let types = arguments.split(',').filter_map(|argument| argument.split_once(':'));
            let types: Vec<_> = types.map(|(_, kind)| spelled_as_ours(kind)).collect();
            found.insert(
                format!("wasmtime_{name}"),
                format!("({}){}", types.join(","), spelled_as_ours(result)),
            );
        }
        found
    }

    /// Wasmtime's names for what is opaque to it, and for the handler's type.
    fn spelled_as_ours(kind: &str) -> String {
        compact(kind).replace("wasmtime_memory_image", "u8").replace("wasmtime_trap_handler_t", "TrapHandler")
    }

    fn compact(text: &str) -> String {
        text.chars().filter(|character| !character.is_whitespace()).collect()
    }
}
