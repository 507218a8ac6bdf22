//! Cargo as a tool: builds whose output is kept and shown only if they fail.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::progress::Step;
use crate::workspace;

/// A program that a build has made.
#[derive(Debug)]
pub(crate) struct Executable {
    /// The name of its target in `Cargo.toml`.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// The cargo that runs us, else the one in `PATH`.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

/// Runs `cargo build` with `arguments` and returns the programs it made, or kept.
///
/// # Errors
/// If the build fails, with all that cargo has said.
pub(crate) fn build(step: &Step, command: &mut Command) -> Result<Vec<Executable>> {
    let mut child = command
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (made, said) = thread::scope(|scope| {
        let said = scope.spawn(|| read_progress(step, stderr));
        (read_executables(stdout), said.join().unwrap_or_default())
    });
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("{said}cargo build failed ({status})");
    }
    made
}

/// Passes each line on as the step's detail and returns all of them.
fn read_progress(step: &Step, stderr: impl Read) -> String {
    let mut said = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        step.detail(line.trim());
        said.push_str(&line);
        said.push('\n');
    }
    said
}

/// The programs among cargo's messages, one JSON object a line.
fn read_executables(stdout: impl Read) -> Result<Vec<Executable>> {
    let mut made = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read cargo's messages")?;
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        let name = message["target"]["name"].as_str();
        if let (Some(name), Some(path)) = (name, message["executable"].as_str()) {
            made.push(Executable { name: name.to_owned(), path: path.into() });
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::read_executables;

    #[test]
    fn only_executables_are_taken_from_the_messages() {
        let messages = concat!(
            "not json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"lib"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"run"},"executable":"/t/run"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let made = read_executables(messages.as_bytes()).unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].name, "run");
        assert_eq!(made[0].path.to_str(), Some("/t/run"));
    }
}
