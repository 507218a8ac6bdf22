//! Finds what is missing on this computer and installs it, or says what to type.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::progress::{self, say};

/// The toolchain that has Miri, and instruments for a fuzzer.
pub(crate) const NIGHTLY: &str = "nightly";

/// Makes sure that Rust can compile for `triple`.
pub(crate) fn rust_target(triple: &str) -> Result<()> {
    if target_is_there(triple)? {
        return Ok(());
    }
    if !answers("rustup", &["--version"]) {
        bail!(
            "Rust's target {triple} is missing and there is no rustup to add it; \
             install it with your system's Rust packages, or Rust from https://rustup.rs"
        );
    }
    say(format_args!("adding Rust's target {triple}"));
    run(Command::new("rustup").args(["target", "add", triple]))
}

/// Whether rustc has the `core` library of `triple`.
fn target_is_there(triple: &str) -> Result<bool> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--print", "target-libdir", "--target", triple])
        .output()
        .context("cannot start rustc")?;
    let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let has_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    Ok(fs::read_dir(directory).is_ok_and(|entries| entries.filter_map(Result::ok).any(has_core)))
}

/// Makes sure that `rustup run nightly cargo miri` works.
pub(crate) fn miri() -> Result<()> {
    if answers("rustup", &["run", NIGHTLY, "cargo", "miri", "--version"]) {
        return Ok(());
    }
    if !answers("rustup", &["--version"]) {
        bail!("Miri needs Rust's nightly toolchain by rustup; see https://rustup.rs");
    }
    say("adding Rust's nightly toolchain with Miri");
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
    run(install.args(["--component", "miri", "--component", "rust-src"]))
}

/// Makes sure that `rustup run nightly cargo fuzz` works, and what it builds.
pub(crate) fn fuzz() -> Result<()> {
    if !answers("c++", &["--version"]) && env::var_os("CXX").is_none() {
        bail!(
            "the fuzzer is C++ and there is no compiler called `c++`; install one (on Debian and Ubuntu: \
             apt-get install g++), or set CXX, and start again"
        );
    }
    if answers("rustup", &["run", NIGHTLY, "cargo", "fuzz", "--version"]) {
        return Ok(());
    }
    if !answers("rustup", &["run", NIGHTLY, "cargo", "--version"]) {
        if !answers("rustup", &["--version"]) {
            bail!("fuzzing needs Rust's nightly toolchain by rustup; see https://rustup.rs");
        }
        say("adding Rust's nightly toolchain");
        run(Command::new("rustup").args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]))?;
    }
    if !answers("cargo", &["fuzz", "--version"]) {
        say("installing cargo-fuzz");
        run(Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    Ok(())
}

/// Makes sure that QEMU for `arch` is there.
pub(crate) fn qemu(arch: Arch) -> Result<()> {
    let is_there = || answers(arch.qemu(), &["--version"]).then_some(());
    provide(arch.qemu(), &Packages::of_this_computer(), is_there)
}

/// The file of a UEFI firmware for x86_64 machines.
pub(crate) fn uefi() -> Result<PathBuf> {
    provide("a UEFI firmware (OVMF)", &Packages::with_uefi(), firmware)
}

/// Variable that names a firmware where none of the usual places has one.
const FIRMWARE: &str = "ALLOTMENT_UEFI";

/// Where systems put it, and what QEMU's own is called in its data directories.
const FIRMWARES: [&str; 6] = [
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
    "/usr/share/edk2-ovmf/OVMF_CODE.fd",
    "/usr/share/qemu/ovmf-x86_64-code.bin",
];
const FIRMWARE_OF_QEMU: &str = "edk2-x86_64-code.fd";

fn firmware() -> Option<PathBuf> {
    let named = env::var_os(FIRMWARE).map(PathBuf::from);
    let output = Command::new(Arch::X86_64.qemu()).args(["-L", "help"]).stdin(Stdio::null()).output();
    let directories = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let of_qemu = directories.unwrap_or_default();
    let of_qemu = of_qemu.lines().map(|directory| Path::new(directory).join(FIRMWARE_OF_QEMU));
    let usual = FIRMWARES.into_iter().map(PathBuf::from);
    named.into_iter().chain(usual).chain(of_qemu).find(|file| file.is_file())
}

/// Finds `what`; if it is missing installs `packages`, or says how.
fn provide<T>(what: &str, packages: &Packages, find: impl Fn() -> Option<T>) -> Result<T> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let command = packages.command();
    let Some(prefix) = packages.installer_prefix() else {
        bail!("{what} is missing; install it with\n\n    {command}\n\nand start again");
    };
    let in_words = if prefix.is_empty() { "" } else { " with sudo" };
    say(format_args!("{what} is missing; installing it{in_words}: {command}"));
    progress::step(&format!("installing {what}"), |step| {
        for words in packages.commands {
            step.detail(&words.join(" "));
            let mut words = prefix.iter().chain(words.iter());
            let program = words.next().expect("a command has a program");
            let output = Command::new(program)
                .args(words)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("cannot start {program}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                bail!("{said}installing {what} failed; to see more, type\n\n    {command}\n");
            }
        }
        Ok(())
    })?;
    find().with_context(|| format!("{what} is still missing after\n\n    {command}\n"))
}

/// How something is installed on a system.
#[derive(Debug, PartialEq, Eq)]
struct Packages {
    /// Whether we do it ourselves, where we may.
    automatic: bool,
    /// Whether it takes root.
    as_root: bool,
    commands: &'static [&'static [&'static str]],
}

/// Debian, Ubuntu and theirs. Recommended packages are desktop parts that
/// nobody needs here and that some images cannot install.
const APT: Packages = Packages {
    automatic: true,
    as_root: true,
    commands: &[
        &["apt-get", "update"],
        &["apt-get", "install", "--yes", "--no-install-recommends", "qemu-system-x86", "qemu-system-arm"],
    ],
};

/// A firmware there.
const APT_UEFI: Packages = Packages {
    commands: &[&["apt-get", "update"], &["apt-get", "install", "--yes", "--no-install-recommends", "ovmf"]],
    ..APT
};

/// The others: by what `/etc/os-release` calls itself or is like.
const BY_HAND: [(&str, &[&[&str]]); 5] = [
    ("fedora", &[&["dnf", "install", "qemu-system-x86", "qemu-system-aarch64"]]),
    ("arch", &[&["pacman", "-S", "qemu-system-x86", "qemu-system-aarch64"]]),
    ("alpine", &[&["apk", "add", "qemu-system-x86_64", "qemu-system-aarch64"]]),
    ("suse", &[&["zypper", "install", "qemu-x86", "qemu-arm"]]),
    ("gentoo", &[&["emerge", "app-emulation/qemu"]]),
];

impl Packages {
    fn of_this_computer() -> Self {
        if cfg!(target_os = "macos") {
            return Self::by_user(&[&["brew", "install", "qemu"]]);
        }
        if answers("apt-get", &["--version"]) {
            return APT;
        }
        Self::by_os_release(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn with_uefi() -> Self {
        if cfg!(not(target_os = "macos")) && answers("apt-get", &["--version"]) {
            return APT_UEFI;
        }
        // By QEMU's packages, or by another one with a name of the system's own.
        Self::by_user(&[&[
            "(your package manager)",
            "install",
            "ovmf,",
            "or",
            "name",
            "its",
            "file",
            "in",
            FIRMWARE,
        ]])
    }

    fn by_os_release(text: &str) -> Self {
        let names = || {
            text.lines()
                .filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")))
                .flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace())
        };
        if names().any(|name| name == "nixos") {
            return Self::by_user(&[&["nix-shell", "-p", "qemu"]]);
        }
        let of = |like: &str| names().any(|name| name.contains(like));
        BY_HAND.iter().find(|(like, _)| of(like)).map_or(
            Self::by_user(&[&["(your package manager)", "install", "qemu"]]),
            |(_, commands)| Self { automatic: false, as_root: true, commands },
        )
    }

    const fn by_user(commands: &'static [&'static [&'static str]]) -> Self {
        Self { automatic: false, as_root: false, commands }
    }

    /// What to put before the commands to run them ourselves, if that is possible at all.
    fn installer_prefix(&self) -> Option<&'static [&'static str]> {
        if !self.automatic {
            None
        } else if rustix::process::geteuid().is_root() {
            Some(&[])
        } else if answers("sudo", &["--non-interactive", "true"]) {
            Some(&["sudo", "--non-interactive"])
        } else {
            None
        }
    }

    /// The line for a person to type.
    fn command(&self) -> String {
        let sudo = if self.as_root && !rustix::process::geteuid().is_root() { "sudo " } else { "" };
        let lines: Vec<String> =
            self.commands.iter().map(|words| format!("{sudo}{}", words.join(" "))).collect();
        lines.join(" && ")
    }
}

/// Whether a program can be started and ends well.
fn answers(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a program whose output people are to see, on standard error.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{APT, Packages};

    fn first_word(os_release: &str) -> &'static str {
        Packages::by_os_release(os_release).commands[0][0]
    }

    #[test]
    fn systems_are_told_apart() {
        assert_eq!(first_word("NAME=Fedora\nID=fedora\n"), "dnf");
        assert_eq!(first_word("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), "dnf");
        assert_eq!(first_word("ID=arch\n"), "pacman");
        assert_eq!(first_word("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\""), "zypper");
        assert_eq!(first_word("ID=nixos\n"), "nix-shell");
        assert_eq!(first_word(""), "(your package manager)");
    }

    #[test]
    fn the_line_to_type_is_complete() {
        let line = APT.command();
        assert!(line.contains("apt-get update && "), "{line}");
        assert!(line.contains("--no-install-recommends qemu-system-x86 qemu-system-arm"), "{line}");
    }
}
