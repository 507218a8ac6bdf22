//! Settings by Wasmtime's names, down to what a program notices of them.

use crate::support::{ARCHES, Done, Scratch, X86_64, finish, guest, run, tool};

/// A module that calls itself so many times, with a few words on the stack each time.
fn deep(scratch: &Scratch, calls: u32) -> String {
    let text = format!(
        "(module (memory 1)
           (func $down (param $left i32) (param $sum i64) (result i64)
             (if (result i64) (i32.eqz (local.get $left))
               (then (local.get $sum))
               (else (i64.add (i64.load (i32.const 0)) (call $down
                 (i32.sub (local.get $left) (i32.const 1)) (i64.add (local.get $sum) (i64.const 1)))))))
           (func (export \"_start\") (drop (call $down (i32.const {calls}) (i64.const 0)))))"
    );
    scratch.module("deep.wat", &text)
}

#[test]
fn fuel_ends_a_program() {
    for arch in ARCHES {
        run(arch, &["-W", "fuel=100_000", guest("loop")]).says(134, &["all fuel consumed"]);
        run(arch, &["-W", "fuel=0x1000000", guest("proc_exit")]).is(42, "leaving\n");
    }
}

#[test]
fn time_ends_a_program() {
    for arch in ARCHES {
        run(arch, &["-W", "timeout=300ms", guest("loop")])
            .says(134, &["wasm trap: interrupt", "wasm backtrace"]);
        // Ticks that end nothing.
        run(arch, &["-W", "epoch-interruption,timeout=600s", guest("proc_exit")]).is(42, "leaving\n");
    }
}

#[test]
fn stacks_have_the_size_that_is_asked_for() {
    let scratch = Scratch::new("stacks");
    let shallow = deep(&scratch, 2_000);
    for arch in ARCHES {
        run(arch, &[&shallow]).is(0, "");
        run(arch, &["-W", "max-wasm-stack=16384", &shallow]).says(134, &["call stack exhausted"]);
    }
    let deep = deep(&scratch, 100_000);
    for arch in ARCHES {
        run(arch, &[&deep]).says(134, &["call stack exhausted"]);
        run(arch, &["-W", "max-wasm-stack=33554432", &deep]).is(0, "");
        let more = "max-wasm-stack=33554432,async-stack-size=1048576";
        run(arch, &["-W", more, &deep]).says(126, &["max_wasm_stack", "async_stack_size"]);
    }
}

#[test]
fn stores_have_limits() {
    let scratch = Scratch::new("limits");
    // Traps unless growth gives what it is told.
    let grows = |expected: i32| {
        let text = format!(
            "(module (memory 1) (table 1 funcref) (func (export \"_start\")
               (if (i32.ne (memory.grow (i32.const 2)) (i32.const {expected})) (then unreachable))
               (if (i32.ne (table.grow (ref.null func) (i32.const 20)) (i32.const {expected})) (then unreachable))))"
        );
        scratch.module(&format!("grows{expected}.wat"), &text)
    };
    let limits = "max-memory-size=131072,max-table-elements=20";
    for arch in ARCHES {
        run(arch, &[&grows(1)]).is(0, "");
        run(arch, &["-W", limits, &grows(-1)]).is(0, "");
        run(arch, &["-W", &format!("{limits},trap-on-grow-failure"), &grows(-1)]).says(134, &["grow"]);
        run(arch, &["-W", "max-memories=0", &grows(1)]).says(126, &["memor"]);
        run(arch, &["-W", "max-memories=1,max-tables=1,max-instances=1", &grows(1)]).is(0, "");
    }
}

#[test]
fn backtraces_are_as_long_as_is_asked_for() {
    let frames = |done: &Done| done.stderr.lines().filter(|line| line.contains("!<wasm function")).count();
    let scratch = Scratch::new("backtraces");
    let module = scratch.module(
        "nested.wat",
        "(module (func (export \"_start\") call 1) (func call 2) (func call 3) (func unreachable))",
    );
    for arch in ARCHES {
        for (words, count) in
            [(vec![], 4), (vec!["-D", "max-backtrace=2"], 2), (vec!["-D", "max-backtrace=0"], 0)]
        {
            let done = run(arch, &[&words[..], &[&module]].concat());
            done.says(134, &["wasm `unreachable` instruction executed"]);
            assert_eq!(frames(&done), count, "{words:?}: {}", done.stderr);
        }
        let done = run(arch, &["-D", "address-map=n", &module]);
        assert_eq!((done.status, frames(&done)), (Some(134), 4), "{}", done.stderr);
    }
}

#[test]
fn unknown_imports_can_be_had() {
    let scratch = Scratch::new("imports");
    let module = scratch.module(
        "imports.wat",
        "(module (import \"no\" \"body\" (func $f (result i32)))
           (func (export \"_start\") (if (call $f) (then unreachable))))",
    );
    for arch in ARCHES {
        run(arch, &[&module]).says(126, &["no::body"]);
        run(arch, &["-W", "unknown-imports-default", &module]).is(0, "");
        run(arch, &["-W", "unknown-imports-trap", &module]).says(134, &["no::body"]);
    }
}

#[test]
fn collected_heaps_by_each_collector() {
    let scratch = Scratch::new("collectors");
    let module = scratch.module(
        "list.wat",
        "(module (type $cell (struct (field i32) (field (ref null $cell))))
           (func (export \"_start\") (local $n i32) (local $list (ref null $cell))
             (loop $more
               (local.set $list (struct.new $cell (local.get $n) (local.get $list)))
               (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
             (if (i32.ne (struct.get $cell 0 (local.get $list)) (i32.const 999)) (then unreachable))))",
    );
    for arch in ARCHES {
        for collector in ["drc", "null", "copying"] {
            run(arch, &["-C", &format!("collector={collector}"), &module]).is(0, "");
        }
    }
    run(X86_64, &["-W", "gc=n", &module]).says(126, &["GC proposal is disabled"]);
}

#[test]
fn settings_reach_both_sides() {
    let wasm = "nan-canonicalization,relaxed-simd-deterministic,async-stack-zeroing,custom-page-sizes";
    let optimize = "opt-level=s,regalloc-algorithm=backtracking,memory-reservation=0x40000000,\
                    memory-guard-size=65536,memory-reservation-for-growth=1048576,guard-before-linear-memory=n,\
                    memory-init-cow=n,memory-guaranteed-dense-image-size=0,table-lazy-init=n,\
                    gc-heap-reservation=0x40000000,gc-heap-guard-size=65536,gc-heap-initial-size=65536,\
                    gc-heap-reservation-for-growth=1048576,gc-heap-may-move,static-memory-forced";
    let codegen = "inlining,cranelift-debug-verifier,native-unwind-info=n,parallel-compilation=n,\
                   metadata-for-internal-asserts,metadata-for-gc-heap-corruption,cranelift-enable_alias_analysis=false";
    for arch in ARCHES {
        for strategy in ["pooling-allocator", "pooling-allocator=n"] {
            let words =
                ["-W", wasm, "-O", optimize, "-O", strategy, "-C", codegen, "-D", "debug-info,symbols"];
            run(arch, &[&words[..], &[guest("proc_exit")]].concat()).is(42, "leaving\n");
        }
        run(arch, &["-O", "signals-based-traps=n", guest("misbehave"), "--", "load-past-the-end"])
            .says(134, &["out of bounds memory access"]);
    }
}

#[test]
fn pools_are_as_is_asked_for() {
    let done = run(X86_64, &["--plan", "-O", "pooling-total-memories=5,pooling-max-memory-size=0x200000"]);
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert!(done.text().contains("5 slots") || done.text().contains(" 5 "), "{}", done.text());
    let two = ["--instances", "3", "-O", "pooling-total-memories=1"];
    run(X86_64, &[&two[..], &[guest("proc_exit")]].concat());
    let refused = run(X86_64, &["-O", "pooling-max-memory-size=65536", guest("huge_memory")]);
    assert_eq!(refused.status, Some(126), "{}", refused.stderr);
}

#[test]
fn instances_take_turns() {
    for arch in ARCHES {
        for cpus in ["1", "4"] {
            let words =
                ["--smp", cpus, "--instances", "8", "--slice", "2", "-W", "timeout=4s", guest("turns")];
            let done = run(arch, &words);
            assert_eq!(
                (done.status, done.text()),
                (Some(134), "ended\n".repeat(4).as_str()),
                "{}",
                done.stderr
            );
            let summary = format!("8 instances on {cpus} CPU");
            assert!(done.stderr.contains(&summary), "{}", done.stderr);
            assert!(
                done.stderr.contains("4 exited with 0") && done.stderr.contains("4 wasm trap: interrupt")
            );
            // Those that never ended had turns, and nobody waited for more than one of each other.
            let number = |prefix: &str| -> u64 {
                let line = done.stderr.lines().find_map(|line| line.trim().strip_prefix(prefix));
                line.and_then(|line| line.split(' ').next()).unwrap_or_default().parse().expect("a number")
            };
            assert!(number("wasm trap: interrupt: ") >= 2, "{}", done.stderr);
            assert!(number("longest wait: ") < 8 / cpus.parse::<u64>().unwrap(), "{}", done.stderr);
        }
    }
}

#[test]
fn a_module_with_other_settings_is_refused() {
    let scratch = Scratch::new("other");
    let compiled = &scratch.file("fuel.cwasm");
    let words = ["compile", "--arch", X86_64, "-W", "fuel=1", guest("proc_exit"), "-o", compiled];
    finish(tool(words), b"").is(0, "");
    run(X86_64, &[compiled]).says(126, &["fuel support"]);
    run(X86_64, &["-W", "fuel=1000", compiled]).is(42, "leaving\n");
}

#[test]
fn unknown_settings_are_refused_with_the_list() {
    for (words, mistake, listed) in [
        (["run", "-W", "fool=1"], "unknown option `fool`", "max-wasm-stack=BYTES"),
        (["run", "-O", "fuel=1"], "unknown option `fuel`", "pooling-total-memories=N"),
        (["run", "-C", "winch"], "unknown option `winch`", "cranelift-KEY"),
        (["run", "-D", "max-backtrace=all"], "no number", "max-backtrace"),
        (["run", "-W", "threads"], "not to be had", "needs `std`"),
        (["run", "-W", "fuel=1"], "MODULE", "settings"),
        (["compile", "-W", "simd=maybe"], "neither y nor n", "simd"),
    ] {
        finish(tool(words), b"").says(2, &[mistake, listed]);
    }
    for group in ["-W", "-O", "-C", "-D"] {
        let done = finish(tool(["run", group, "help"]), b"");
        assert_eq!((done.status, &*done.stderr), (Some(0), ""));
        assert!(done.text().contains("Not to be had, and why"), "{}", done.text());
    }
}
