;; What the program runs without a file: prints primes, grows, and goes too far.
(module
  (import "host" "print_i32" (func $print_i32 (param i32)))
  (import "host" "print" (func $print (param i32 i32)))
  (memory (export "memory") 1 2)
  (data (i32.const 0) "primes below 50: pages after growth: ")

  (func $is_prime (param $n i32) (result i32)
    (local $d i32)
    (local.set $d (i32.const 2))
    (loop $next
      (if (i32.gt_u (i32.mul (local.get $d) (local.get $d)) (local.get $n)) (then (return (i32.const 1))))
      (if (i32.eqz (i32.rem_u (local.get $n) (local.get $d))) (then (return (i32.const 0))))
      (local.set $d (i32.add (local.get $d) (i32.const 1)))
      (br $next))
    (unreachable))

  (func (export "main")
    (local $n i32)
    (call $print (i32.const 0) (i32.const 17))
    (local.set $n (i32.const 2))
    (loop $next
      (if (call $is_prime (local.get $n)) (then (call $print_i32 (local.get $n))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $n) (i32.const 50))))
    (call $print (i32.const 17) (i32.const 20))
    (drop (memory.grow (i32.const 1)))
    (call $print_i32 (memory.size)))

  ;; The byte after the memory's last.
  (func (export "too_far") (result i32)
    (i32.load8_u (i32.mul (memory.size) (i32.const 65536)))))
