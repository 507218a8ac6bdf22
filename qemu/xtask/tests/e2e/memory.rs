//! Machines with little and much memory, programs that need it.

use crate::support::{ARCHES, Scratch, guest, run};

#[test]
fn machines_come_in_many_sizes() {
    for arch in ARCHES {
        for size in ["32M", "64M", "65M", "3G", "5G"] {
            run(arch, &["--memory", size, guest("tools"), "--", "exit", "3"]).is(3, "exiting with 3");
        }
    }
}

#[test]
fn a_program_grows_to_hundreds_of_mebibytes() {
    for arch in ARCHES {
        let done = run(arch, &["--memory", "1G", guest("tools"), "--", "allocate", "250"]);
        assert_eq!(
            (done.status, done.text().split(',').next()),
            (Some(0), Some("250 MiB")),
            "{}",
            done.stderr
        );
        let done = run(arch, &["--memory", "128M", guest("tools"), "--", "allocate", "250"]);
        done.says(134, &["memory allocation of 1048576 bytes failed"]);
    }
}

#[test]
fn growth_past_the_arena_gives_minus_one_and_the_program_goes_on() {
    let scratch = Scratch::new("grow");
    // Ends with the number of times that memory grew by 16 MiB.
    let module = scratch.module(
        "grow.wat",
        r#"(module
          (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
          (memory (export "memory") 1)
          (func (export "_start") (local $times i32)
            (loop $again
              (if (i32.ne (memory.grow (i32.const 256)) (i32.const -1))
                (then
                  (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 0x10000)) (i32.const 1)) (i32.const 1))
                  (local.set $times (i32.add (local.get $times) (i32.const 1)))
                  (br $again))))
            (call $proc_exit (local.get $times))))"#,
    );
    for arch in ARCHES {
        for (size, least) in [("64M", 2), ("256M", 12), ("2G", 110)] {
            let most = 2048 / 16;
            let done = run(arch, &["--memory", size, &module]);
            let times = done.status.unwrap();
            assert!((least..most).contains(&times), "{size}: {times} times: {}", done.stderr);
        }
    }
}

#[test]
fn a_computation_checks_its_own_result() {
    for arch in ARCHES {
        let done = run(arch, &["--memory", "128M", guest("sieve"), "--", "50000000"]);
        done.is(0, "sieve: 3001134 primes and 239101 twins below 50000000, in 24 MiB\n");
    }
}

#[test]
fn deep_recursion_works_and_endless_recursion_is_contained() {
    for arch in ARCHES {
        run(arch, &[guest("tools"), "--", "recurse", "5000"]).is(0, "12502500\n");
        run(arch, &[guest("tools"), "--", "recurse", "100000"]).says(134, &["call stack exhausted"]);
    }
}

#[test]
fn tens_of_thousands_of_data_segments_arrive() {
    let scratch = Scratch::new("segments");
    let module = guest_data::many_segments(20_000);
    // The last segment's number and first letter, or it traps.
    let check = r#"(func (export "_start")
        (if (i64.ne (i64.load (i32.const 319984)) (i64.const 0x6e656d6765734e1f)) (then unreachable))))"#;
    let module = module.trim_end().strip_suffix(')').expect("a module").to_owned() + check;
    let module = scratch.module("segments.wat", module);
    for arch in ARCHES {
        run(arch, &[&module]).is(0, "");
    }
}
