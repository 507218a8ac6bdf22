;; Control: each function is a way to get from one instruction to another.
(module
  (global $count (mut i32) (i32.const 0))
  (global (export "answer") i64 (i64.const 42))

  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add
        (call $fib (i32.sub (local.get 0) (i32.const 1)))
        (call $fib (i32.sub (local.get 0) (i32.const 2)))))))

  (func (export "factorial") (param i64) (result i64)
    (local $product i64)
    (local.set $product (i64.const 1))
    (block $done
      (loop $again
        (br_if $done (i64.eqz (local.get 0)))
        (local.set $product (i64.mul (local.get $product) (local.get 0)))
        (local.set 0 (i64.sub (local.get 0) (i64.const 1)))
        (br $again)))
    (local.get $product))

  ;; Two results, in the other order.
  (func $swap (export "swap") (param i32 i64) (result i64 i32) (local.get 1) (local.get 0))
  (func (export "swap_twice") (param i32 i64) (result i32 i64)
    (local i64)
    (call $swap (local.get 0) (local.get 1))
    (block (param i64 i32) (result i32 i64)
      (local.set 0)
      (local.set 2)
      (local.get 0)
      (local.get 2)))

  (func (export "table") (param i32) (result i32)
    (block $default
      (block $two
        (block $one
          (block $zero
            (br_table $zero $one $two $default (local.get 0)))
          (return (i32.const 100)))
        (return (i32.const 101)))
      (return (i32.const 102)))
    (i32.const 103))

  ;; A branch keeps one operand and drops three.
  (func (export "drops") (param i32) (result i32)
    (i32.add
      (i32.const 1000)
      (block $out (result i32)
        (i32.const 1) (i32.const 2) (i32.const 3)
        (br_if $out (i32.const 7) (local.get 0))
        (drop) (drop) (drop) (drop)
        (i32.const 9))))

  ;; A branch to the function's own label, from within; and from a table.
  (func (export "leaves") (param i32) (result i32)
    (i32.const 5)
    (block (br_if 1 (i32.const 6) (local.get 0)) (drop))
    (i32.const 3)
    (br_table 0 0 (local.get 0)))

  ;; A loop with a parameter: sums up what comes in.
  (func (export "sum") (param $n i32) (result i32)
    (i32.const 0)
    (loop $again (param i32) (result i32)
      (i32.add (local.get $n))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n))))

  ;; A loop with two parameters and one result: the third power.
  (func (export "power") (param $n i32) (result i32)
    (local $times i32)
    (local.set $times (i32.const 3))
    (i32.const 0)
    (i32.const 1)
    (local.get $n)
    (loop $again (param i32 i32) (result i32)
      (i32.mul)
      (local.get $n)
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))
      (drop))
    (i32.add))

  ;; What follows a branch is never run, whatever it says.
  (func (export "dead") (param i32) (result i32)
    (block $out (result i32)
      (br $out (i32.const 11))
      (block (loop (br 1)) (br 0) (if (then (unreachable)) (else (nop))))
      (i32.add)
      (drop)
      (br_table 0 0 (i32.const 0)))
    (if (param i32) (result i32) (local.get 0)
      (then (return (i32.const 12)) (unreachable))
      (else (i32.const 1) (i32.add))))

  (func (export "if_without_else") (param i32) (result i32)
    (if (local.get 0) (then (local.set 0 (i32.const 77))))
    (local.get 0))

  (func (export "choose") (param i32) (result i64)
    (select (result i64) (i64.const -1) (i64.const 1) (select (i32.const 0) (i32.const 1) (local.get 0))))

  (func (export "tee") (param i32) (result i32)
    (local i32)
    (i32.mul (local.tee 1 (i32.add (local.get 0) (i32.const 1))) (local.get 1)))

  (func (export "count") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (global.get $count))

  (func (export "trap") (unreachable))
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  ;; The same with a hundred locals.
  (func $deep_and_wide (export "deep_and_wide") (param i32) (result i32)
    (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
    (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
    (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
    (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $deep_and_wide (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "for_ever") (loop $again (br $again)))
  (func (export "floats") (param f32 f64) (result f64)
    (f64.add (f64.promote_f32 (local.get 0)) (local.get 1))))
