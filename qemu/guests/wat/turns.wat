;; Takes turns: an instance with an odd number never ends, one with an even number does, after it has slept
;; for 20 ms if that is a multiple of 4. The number is at the end of the only variable there is.
(module
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "ended\n")

  (func $last_digit (result i32)
    (drop (call $environ_sizes_get (i32.const 0) (i32.const 4)))
    (drop (call $environ_get (i32.const 1024) (i32.const 2048)))
    ;; In front of the NUL that ends the variable.
    (i32.load8_u (i32.add (i32.const 2046) (i32.load (i32.const 4)))))

  (func $sleep
    ;; A relative time of the monotonic clock.
    (i32.store (i32.const 256) (i32.const 0))
    (i32.store8 (i32.const 264) (i32.const 0))
    (i32.store (i32.const 272) (i32.const 1))
    (i64.store (i32.const 280) (i64.const 20000000))
    (drop (call $poll_oneoff (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 8))))

  (func (export "_start") (local $digit i32)
    (local.set $digit (call $last_digit))
    (if (i32.and (local.get $digit) (i32.const 1)) (then (loop $again (br $again))))
    (if (i32.eqz (i32.and (local.get $digit) (i32.const 3))) (then (call $sleep)))
    (i32.store (i32.const 16) (i32.const 64))
    (i32.store (i32.const 20) (i32.const 6))
    (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))))
