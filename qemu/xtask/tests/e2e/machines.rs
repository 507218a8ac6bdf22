//! QEMU as a process: its command line, debuggers, signals, company.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{
    AARCH64, ARCHES, Scratch, X86_64, finish, guest, image_of, kernel, machines_of, run, start, tool, wait,
    wait_for,
};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_verbose_run_prints_qemus_line() {
    for arch in ARCHES {
        let done = run(arch, &["-v", "--memory", "300M", guest("proc_exit")]);
        assert_eq!(done.is(42, "leaving\n").stderr.matches(&format!("qemu-system-{arch} ")).count(), 1);
        assert!(done.stderr.contains("-m 300M") && done.stderr.contains("-kernel "), "{}", done.stderr);
    }
}

#[test]
fn a_cpu_without_what_is_needed_is_refused_with_a_message() {
    for (cpu, lacks) in
        [("qemu64", "XSAVE"), ("Nehalem", "XSAVE"), ("max,-nx", "no-execute"), ("max,-avx", "AVX")]
    {
        run(X86_64, &["--cpu", cpu, guest("loop")]).says(125, &["this CPU lacks", lacks, "-cpu max"]);
    }
    // Enough for the kernel, not for the modules it is given.
    run(X86_64, &["--cpu", "max,-avx2", guest("loop")]).says(126, &["avx2"]);
    run(X86_64, &["--cpu", "nonsense", guest("loop")]).says(125, &["nonsense"]);
}

#[test]
fn older_cpus_run_programs_too() {
    for (arch, cpu) in [(X86_64, "Haswell-v4"), (AARCH64, "cortex-a53"), (AARCH64, "cortex-a72")] {
        run(arch, &["--cpu", cpu, guest("proc_exit")]).is(42, "leaving\n");
        run(arch, &["--cpu", cpu, guest("misbehave"), "--", "load-past-the-end"])
            .says(134, &["out of bounds"]);
    }
}

#[test]
fn a_machine_may_have_several_cpus() {
    for arch in ARCHES {
        let done = run(arch, &["-v", "--smp", "2", guest("proc_exit")]);
        assert!(done.is(42, "leaving\n").stderr.contains(" -smp 2 "), "{}", done.stderr);
    }
    run(X86_64, &["--smp", "8", guest("proc_exit")]).is(42, "leaving\n");
    run(AARCH64, &["--smp", "8", guest("proc_exit")]).is(42, "leaving\n");
    for command in ["run", "image"] {
        for wrong in ["0", "9", "two"] {
            let line = [command, "--smp", wrong, guest("proc_exit"), "-o", "/nowhere/out"];
            let words = [&*format!("`{wrong}`"), "--smp", "1 to 8"];
            let line = &line[..if command == "run" { 4 } else { 6 }];
            finish(tool(line), b"").says(2, &words);
        }
    }
}

#[test]
fn a_machine_waits_for_its_debugger() {
    for arch in ARCHES {
        kernel(arch);
        let mut child =
            start(tool(["run", "--arch", arch, "--gdb", guest("proc_exit")]).stdin(Stdio::null()));
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut words = String::new();
        while !words.contains("lldb") {
            assert_ne!(said.read_line(&mut words).unwrap(), 0, "{words}");
        }
        assert!(words.contains("gdb") && words.contains("target remote localhost:"), "{words}");
        let port = words.split("remote localhost:").nth(1).unwrap();
        let port: u16 = port.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();

        let mut debugger =
            wait_for("QEMU to listen", SOON, || TcpStream::connect(("127.0.0.1", port)).ok()).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "the machine does not wait");
        // GDB's remote protocol: why did you stop? And then: go on.
        debugger.write_all(b"+$?#3f").unwrap();
        let mut answer = [0; 4];
        debugger.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"+$T0");
        debugger.write_all(b"+$c#63").unwrap();
        wait(child).is(42, "leaving\n");
    }
}

/// A run that lasts, and its QEMU.
fn endless(arch: &str) -> (Child, u32) {
    kernel(arch);
    let child = start(tool(["run", "--arch", arch, guest("loop")]).stdin(Stdio::null()));
    let pid = child.id();
    let machine = wait_for("QEMU to start", SOON, || machines_of(pid).first().copied()).unwrap();
    // The image goes as soon as the kernel speaks.
    wait_for("the image to go", SOON, || (!image_of(pid).exists()).then_some(())).unwrap();
    (child, machine)
}

// Not INT: a shell that runs the tests in the background has its children ignore it.
#[test]
fn machines_end_with_the_tool_whatever_it_dies_of() {
    for (arch, signal) in [(X86_64, "KILL"), (AARCH64, "KILL"), (X86_64, "TERM"), (AARCH64, "TERM")] {
        let (mut child, _) = endless(arch);
        let pid = child.id();
        let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap();
        assert!(sent.success());
        let status = wait_for("the tool to end", SOON, || child.try_wait().unwrap()).unwrap();
        assert_eq!(status.code(), None);
        wait_for("QEMU to go", SOON, || machines_of(pid).is_empty().then_some(())).unwrap();
    }
}

#[test]
fn a_machine_that_is_killed_is_a_failure_of_ours() {
    let (child, machine) = endless(X86_64);
    assert!(Command::new("kill").args(["-s", "KILL", &machine.to_string()]).status().unwrap().success());
    wait(child).says(125, &["signal"]);
}

#[test]
fn runs_at_the_same_time_do_not_disturb_each_other() {
    for arch in ARCHES {
        kernel(arch);
    }
    thread::scope(|scope| {
        let runs: Vec<_> = (0..6)
            .map(|number: usize| {
                scope.spawn(move || {
                    let input = vec![u8::try_from(number).unwrap(); 100_000 + number];
                    let line = ["run", "--arch", ARCHES[number % 2], guest("tools"), "--", "cat"];
                    assert_eq!(finish(tool(line), &input).stdout, input);
                })
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
    });
}

#[test]
fn another_kind_of_machine_has_the_console_only() {
    let scratch = Scratch::new("q35");
    let module = scratch.module("returns.wat", "(module (func (export \"_start\")))");
    let image = scratch.file("image");
    let line = finish(tool(["image", "--arch", X86_64, "--machine", "q35", &module, "-o", &image]), b"");
    let mut shell = Command::new("timeout");
    shell.args(["60", "sh", "-c", line.text()]);
    let booted = finish(shell, b"");
    assert!(booted.text().contains("exited with status 0"), "{}", booted.text());
}
