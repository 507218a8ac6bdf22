//! Names for the addresses in a kernel's last words.

use std::borrow::Cow;
use std::path::Path;

use addr2line::Loader;

use crate::workspace;

/// What precedes an address on a line of a kernel's backtrace.
const MARK: &str = "  at 0x";

/// What precedes the caller of an inlined function.
const INLINED: &str = "     inlined into  ";

/// How far behind a symbol an address may lie and still be told by its name.
const REACH: u64 = 1 << 20;

/// How long a function's name may be with its type arguments.
const LONG: usize = 100;

/// Adds function, file and line to each `  at 0x<hex>` line of `text`.
///
/// Such addresses are return addresses and lie behind their call, maybe in the next function: they
/// are looked up one byte earlier. The exception is the address of a faulting instruction, which
/// the kernel has printed before, among the registers.
pub(crate) fn symbolise(text: &str, elf: &Path) -> String {
    let loader = text.contains(MARK).then(|| Loader::new(elf).ok()).flatten();
    let Some(loader) = loader else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(text.len() * 2);
    let mut registers = String::new();
    for line in text.lines() {
        out.push_str(line);
        if let Some(address) = address(line) {
            let faulted = registers.contains(&format!("{address:x}"));
            out.push_str(&names(&loader, address - u64::from(!faulted && address > 0)));
        } else {
            registers.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// Only the lines of a symbolised text that are part of a backtrace.
pub(crate) fn backtrace(symbolised: &str) -> String {
    symbolised
        .lines()
        .filter(|line| line.starts_with(MARK) || line.starts_with(INLINED))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// The address on a line of a backtrace.
fn address(line: &str) -> Option<u64> {
    let digits = line.trim_end().strip_prefix(MARK)?;
    let digits = digits.split_whitespace().next()?;
    u64::from_str_radix(digits, 16).ok()
}

/// ` function (file:line)`, and one more line for each function it is inlined into.
fn names(loader: &Loader, address: u64) -> String {
    let mut text = String::new();
    if let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            if !text.is_empty() {
                text.push('\n');
                text.push_str(INLINED);
            }
            let name = frame.function.as_ref().and_then(|function| function.demangle().ok());
            let name = name.as_deref().unwrap_or("?");
            text += &format!("  {}", without_types(without_hash(name)));
            if let Some(location) = frame.location {
                let file = location.file.unwrap_or("?");
                text += &format!(" ({}:{})", short(file), location.line.unwrap_or(0));
            }
        }
    }
    if text.is_empty() {
        // The symbol below says nothing about code that is not the kernel's.
        let near = |symbol: &addr2line::Symbol<'_>| address - symbol.address() < REACH;
        if let Some(symbol) = loader.find_symbol_info(address).filter(near) {
            let name = addr2line::demangle_auto(symbol.name().into(), None);
            text += &format!("  {}", without_types(without_hash(&name)));
        } else {
            text += "  (outside the kernel: compiled wasm)";
        }
    }
    text
}

/// A long name without its type arguments: those of closures can fill a page.
pub(crate) fn without_types(name: &str) -> Cow<'_, str> {
    match name.find('<') {
        Some(at) if name.len() > LONG => format!("{}<..>", &name[..at]).into(),
        _ => name.into(),
    }
}

/// A demangled name without the hash of Rust's older mangling (`::h` and 16 digits).
pub(crate) fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((front, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => front,
        _ => name,
    }
}

/// A path without what is the same for all files of this workspace, a crate registry or Rust's own library.
pub(crate) fn short(file: &str) -> &str {
    if let Some(ours) = workspace::root().to_str().and_then(|root| file.strip_prefix(root)) {
        return ours.trim_start_matches('/');
    }
    ["/registry/src/", "/rustc/"]
        .into_iter()
        .find_map(|mark| {
            let rest = file.split_once(mark)?.1;
            Some(rest.split_once('/')?.1)
        })
        .unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::{address, short, symbolise, without_hash, without_types};
    use std::path::Path;

    #[test]
    fn addresses_are_found_only_where_they_belong() {
        assert_eq!(address("  at 0x201234"), Some(0x0020_1234));
        assert_eq!(address("  at 0xffff900000000000\r"), Some(0xffff_9000_0000_0000));
        assert_eq!(address("at 0x201234"), None);
        assert_eq!(address("  at 0x"), None);
        assert_eq!(address("fault at 0x10"), None);
    }

    #[test]
    fn names_and_paths_lose_their_noise() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::hello"), "a::hello");
        assert_eq!(short("/home/u/.cargo/registry/src/index-1/spin-0.12/src/a.rs"), "spin-0.12/src/a.rs");
        assert_eq!(without_types("call<fn(), ()>"), "call<fn(), ()>");
        assert_eq!(without_types(&format!("call<{}>", "a, ".repeat(50))), "call<..>");
        assert_eq!(short("qemu/kernel/src/a.rs"), "qemu/kernel/src/a.rs");
    }

    #[test]
    fn own_functions_are_named() {
        // This very program, at a link-time address: the symbol table says which one.
        let program = std::env::current_exe().unwrap();
        let file = std::fs::read(&program).unwrap();
        let elf = object::read::elf::ElfFile64::<object::Endianness>::parse(&*file).unwrap();
        let symbol = object::Object::symbols(&elf)
            .find(|symbol| {
                use object::ObjectSymbol;
                symbol.name().is_ok_and(|name| name.contains("own_functions_are_named")) && symbol.size() > 16
            })
            .unwrap();
        let address = object::ObjectSymbol::address(&symbol) + 1;
        let text = symbolise(&format!("panic\n  at {address:#x}\nend\n"), &program);
        assert!(text.contains("own_functions_are_named"), "{text}");
        assert!(text.contains("symbols.rs:"), "{text}");
        assert!(text.ends_with("\nend\n"), "{text}");
    }

    #[test]
    fn addresses_far_from_every_function_are_given_no_name() {
        let text = symbolise("panic\n  at 0xffff900000001000\n", &std::env::current_exe().unwrap());
        assert!(text.ends_with("  at 0xffff900000001000  (outside the kernel: compiled wasm)\n"), "{text}");
    }

    #[test]
    fn without_symbols_the_text_is_as_it_was() {
        let text = "panic\n  at 0x1\n";
        assert_eq!(symbolise(text, Path::new("/nonexistent")), text);
    }
}
