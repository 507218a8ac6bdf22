//! Kernels that break: status 125, the console, and names for its addresses.

use crate::support::{ARCHES, Done, Scratch, example, finish, tool};

/// Runs a module that calls one function of the broken kernel (`qemu/run/examples/broken.rs`).
fn call(arch: &str, function: &str, options: &[&str]) -> Done {
    let kernel = example(arch, "allotment-run", "broken");
    let scratch = Scratch::new("broken");
    let text =
        format!("(module (import \"host\" \"{function}\" (func $f)) (func (export \"_start\") call $f))");
    let module = scratch.module("call.wat", text);
    let mut command = tool(["run", "--arch", arch, "--timeout", "60", "--kernel"]);
    command.arg(kernel).args(options).arg(module);
    finish(command, b"")
}

/// Whether a line of the backtrace names the function, and file and line.
#[track_caller]
fn assert_names(done: &Done, function: &str) {
    let named = done.stderr.lines().any(|line| {
        let is_trace = line.starts_with("  at 0x") || line.contains("inlined into");
        is_trace && line.contains(&format!("{function} (")) && line.contains("broken.rs:")
    });
    assert!(named, "`{function}` is not in the backtrace: {}", done.stderr);
}

#[test]
fn a_host_function_that_overflows_its_stack_is_reported() {
    for arch in ARCHES {
        let done = call(arch, "overflow", &[]);
        done.says(
            125,
            &["the kernel failed", "page fault: write at 0x", "stack overflow: the main stack", "more times"],
        );
        assert_names(&done, "overflow");
        assert_names(&done, "main");
        assert!(done.stderr.contains("(outside the kernel: compiled wasm)"), "{}", done.stderr);
    }
}

#[test]
fn a_panic_shows_its_message_and_a_backtrace_with_names() {
    for arch in ARCHES {
        let done = call(arch, "panic", &[]);
        done.says(125, &["the kernel failed", "a host function gives up", "allotment: machine failed"]);
        assert_names(&done, "main");
    }
}

#[test]
fn an_exception_of_the_kernel_is_decoded() {
    for arch in ARCHES {
        for (function, words) in [
            ("read_null", ["page fault: read at 0x10", "no page there"]),
            ("write_code", ["page fault: write at 0x", "forbidden by its page"]),
            ("run_data", ["page fault: instruction fetch at 0x", "forbidden by its page"]),
        ] {
            let done = call(arch, function, &[]);
            done.says(125, &words);
            assert_names(&done, "main");
        }
    }
}

#[test]
fn an_overflow_of_a_fibers_stack_names_its_slot() {
    for arch in ARCHES {
        let done = call(arch, "overflow_fiber", &[]);
        let report = "the kernel touched memory of the window: write at 0x";
        let guard = "guard below a fiber stack, which overflowed, offset -0x";
        done.says(125, &["page fault: write at 0x", report, guard, "slot 1 of fiber stacks", "more times"]);
        assert_names(&done, "overflow");
    }
}

#[test]
fn a_panic_on_a_fibers_stack_has_a_backtrace() {
    for arch in ARCHES {
        let done = call(arch, "panic_fiber", &[]);
        // The outermost function of the fiber's, whose frame lies on its stack.
        done.says(125, &["a fiber gives up", "broken.rs:", "  broken_call_on\n"]);
    }
}

#[test]
fn whatever_touches_memory_of_the_window_is_told_whose_it_is() {
    const WHOSE: &str =
        "memory 1, offset 0x10000 of 0x10000 accessible bytes, slot 0 of memories (generation 1), module 7";
    for arch in ARCHES {
        for (function, words, named) in [
            ("leave_memory", ["page fault: read at 0x", "memory of the window: read at 0x"], "read"),
            ("fault_in_hook", ["page fault: read at 0x", "memory of the window: read at 0x"], "read"),
            ("panic_in_hook", ["being answered: page fault", "memory of the window: write at 0x"], "in_hook"),
        ] {
            let done = call(arch, function, &[]);
            done.says(125, &words).says(125, &[WHOSE]);
            assert_names(&done, named);
        }
    }
}

#[test]
fn a_heap_that_is_forbidden_is_not_used() {
    for arch in ARCHES {
        let done = call(arch, "use_heap", &[]);
        done.says(125, &["bytes of heap are asked for while that is forbidden"]);
        assert_names(&done, "use_heap");
    }
}

#[test]
fn a_verbose_run_shows_the_console_once_and_the_names() {
    for arch in ARCHES {
        let done = call(arch, "panic", &["-v"]);
        done.says(125, &["qemu-system-", "-kernel"]);
        assert_eq!(done.stderr.matches("a host function gives up").count(), 1, "{}", done.stderr);
        assert_names(&done, "main");
    }
}

#[test]
fn a_kernel_that_ends_without_a_word_is_a_failure() {
    for arch in ARCHES {
        let kernel = example(arch, "allotment-run", "broken");
        let scratch = Scratch::new("silent");
        let module = scratch.module("silent.wat", "(module (func (export \"_start\")))");
        let mut command = tool(["run", "--arch", arch, "--kernel"]);
        command.arg(kernel).arg(module);
        finish(command, b"").says(125, &["without a word from the program"]);
    }
}
