//! Finds what is missing on this computer and installs it, or says what to type.

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
    if answers(arch.qemu(), &["--version"]) {
        return Ok(());
    }
    let packages = Packages::of_this_computer();
    let command = packages.command();
    let Some(prefix) = packages.installer_prefix() else {
        bail!("{} is missing; install it with\n\n    {command}\n\nand start again", arch.qemu());
    };
    let in_words = if prefix.is_empty() { "" } else { " with sudo" };
    say(format_args!("{} is missing; installing it{in_words}: {command}", arch.qemu()));
    progress::step("installing QEMU", |step| {
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
                bail!("{said}installing QEMU failed; to see more, type\n\n    {command}\n");
            }
        }
        Ok(())
    })?;
    if !answers(arch.qemu(), &["--version"]) {
        bail!("{} is still missing after\n\n    {command}\n", arch.qemu());
    }
    Ok(())
}

/// How QEMU is installed on a system.
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
