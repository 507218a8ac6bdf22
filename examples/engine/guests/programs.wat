;; Programs that are more than one instruction.
(module
  (memory (export "memory") 2)

  ;; How many primes there are below n, by a sieve from address 0.
  (func (export "primes") (param $n i32) (result i32)
    (local $i i32) (local $j i32) (local $count i32)
    (memory.fill (i32.const 0) (i32.const 1) (local.get $n))
    (local.set $i (i32.const 2))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (if (i32.load8_u (local.get $i))
          (then
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (local.set $j (i32.mul (local.get $i) (local.get $i)))
            (block $crossed
              (loop $cross
                (br_if $crossed (i32.ge_u (local.get $j) (local.get $n)))
                (i32.store8 (local.get $j) (i32.const 0))
                (local.set $j (i32.add (local.get $j) (local.get $i)))
                (br $cross)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $count))

  ;; CRC-32 of the bytes from $at on, without a table.
  (func (export "crc32") (param $at i32) (param $len i32) (result i32)
    (local $crc i32) (local $bit i32) (local $end i32)
    (local.set $crc (i32.const -1))
    (local.set $end (i32.add (local.get $at) (local.get $len)))
    (block $done
      (loop $byte
        (br_if $done (i32.eq (local.get $at) (local.get $end)))
        (local.set $crc (i32.xor (local.get $crc) (i32.load8_u (local.get $at))))
        (local.set $bit (i32.const 8))
        (loop $shift
          (local.set $crc
            (i32.xor
              (i32.shr_u (local.get $crc) (i32.const 1))
              (i32.and (i32.const 0xedb88320) (i32.sub (i32.const 0) (i32.and (local.get $crc) (i32.const 1))))))
          (br_if $shift (local.tee $bit (i32.sub (local.get $bit) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $byte)))
    (i32.xor (local.get $crc) (i32.const -1)))
  (data (i32.const 0x8000) "123456789")

  ;; Sorts n numbers from address 0x10000 on by insertion, after it has made them.
  (func (export "sort") (param $n i32) (result i32)
    (local $i i32) (local $j i32) (local $seed i32) (local $value i32)
    (local.set $seed (i32.const 1))
    (loop $make
      (local.set $seed (i32.add (i32.mul (local.get $seed) (i32.const 1103515245)) (i32.const 12345)))
      (local.set $value (i32.shr_u (local.get $seed) (i32.const 8)))
      (local.set $j (local.get $i))
      (block $placed
        (loop $move
          (br_if $placed (i32.eqz (local.get $j)))
          (br_if $placed
            (i32.le_u
              (i32.load offset=0xfffc (i32.shl (local.get $j) (i32.const 2)))
              (local.get $value)))
          (i32.store offset=0x10000
            (i32.shl (local.get $j) (i32.const 2))
            (i32.load offset=0xfffc (i32.shl (local.get $j) (i32.const 2))))
          (local.set $j (i32.sub (local.get $j) (i32.const 1)))
          (br $move)))
      (i32.store offset=0x10000 (i32.shl (local.get $j) (i32.const 2)) (local.get $value))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $make (i32.lt_u (local.get $i) (local.get $n))))
    (i32.load (i32.const 0x10000))))
