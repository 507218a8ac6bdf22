;; For pictures: instances of many sizes. Each grows by its number, which it finds in its
;; environment (ALLOTMENT_INSTANCE=N), to 256 KiB, 1, 4 or 16 MiB, or stays at 64 KiB.
(module
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $digit i32)
    (drop (call $environ_get (i32.const 0) (i32.const 1024)))
    ;; The character behind the 19 of `ALLOTMENT_INSTANCE=`; of larger numbers the first digit.
    (local.set $digit (i32.and (i32.load8_u (i32.const 1043)) (i32.const 15)))
    (drop (memory.grow
      (i32.sub
        (i32.shl (i32.const 1) (i32.mul (i32.const 2) (i32.rem_u (local.get $digit) (i32.const 5))))
        (i32.const 1))))))
