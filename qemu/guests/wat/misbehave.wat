;; A command that does the misdeed that its argument names, and is stopped. Without an argument, or with one
;; that it does not know, it lists what it knows and exits with status 2.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (type $misdeed (func))
  (type $other (func (param f32)))
  (memory (export "memory") 1 2)

  ;; 0x000 an iovec over the names, 0x008 results, 0x010 argv (16 at most), 0x100 their text.
  (data (i32.const 0) "\00\10\00\00")
  ;; The names, one a line, in the order of the table.
  (data $names "load-past-the-end\n"
               "load-straddling-the-end\n"
               "load-at-the-end-of-the-guard\n"
               "load-beyond-the-guard\n"
               "store-past-the-end\n"
               "fill-past-the-end\n"
               "copy-past-the-end\n"
               "divide-by-zero\n"
               "divide-overflow\n"
               "convert-nan\n"
               "unreachable\n"
               "call-null\n"
               "call-mismatched\n"
               "call-past-the-table\n"
               "table-get-past-the-end\n"
               "table-copy-past-the-end\n"
               "overflow-the-stack\n")
  (global $names i32 (i32.const 0x1000))
  (global $names_len i32 (i32.const 315))

  (table $misdeeds funcref (elem
    $load_past $load_straddling $load_guard $load_beyond $store_past $fill_past $copy_past $divide_zero
    $divide_overflow $convert_nan $unreachable $call_null $call_mismatched $call_past $table_get $table_copy
    $overflow))
  (table $victims 3 3 funcref)
  (elem (table $victims) (i32.const 0) func $mismatched)
  (func $mismatched (type $other))

  ;; Not known to the compiler.
  (global $zero (mut i32) (i32.const 0))
  (global $minus_one (mut i32) (i32.const -1))
  (global $end (mut i32) (i32.const 0x10000))
  (global $nan (mut f64) (f64.const nan))

  (func $load_past (drop (i32.load8_u (global.get $end))))
  (func $load_straddling (drop (i64.load (i32.sub (global.get $end) (i32.const 1)))))
  (func $load_guard (drop (i32.load offset=0x1fffffc (global.get $minus_one))))
  (func $load_beyond (drop (i32.load offset=0xfffffff0 (global.get $minus_one))))
  (func $store_past (i32.store (global.get $end) (i32.const 7)))
  (func $fill_past (memory.fill (i32.const 0) (i32.const 7) (i32.add (global.get $end) (i32.const 1))))
  (func $copy_past (memory.copy (i32.const 1) (i32.const 0) (global.get $end)))
  (func $divide_zero (drop (i32.div_u (i32.const 7) (global.get $zero))))
  (func $divide_overflow (drop (i32.div_s (i32.const 0x80000000) (global.get $minus_one))))
  (func $convert_nan (drop (i32.trunc_f64_s (global.get $nan))))
  (func $unreachable unreachable)
  (func $call_null (call_indirect $victims (type $misdeed) (i32.const 1)))
  (func $call_mismatched (call_indirect $victims (type $misdeed) (global.get $zero)))
  (func $call_past (call_indirect $victims (type $misdeed) (global.get $minus_one)))
  (func $table_get (drop (table.get $victims (global.get $minus_one))))
  (func $table_copy (table.copy $victims $victims (i32.const 1) (i32.const 0) (i32.const 3)))
  (func $overflow (drop (call $forever (i64.const 0))))
  (func $forever (param i64) (result i64)
    (i64.add (call $forever (i64.add (local.get 0) (i64.const 1))) (local.get 0)))

  (func (export "_start")
    (local $index i32)
    (memory.init $names (global.get $names) (i32.const 0) (global.get $names_len))
    (drop (call $args_sizes_get (i32.const 8) (i32.const 12)))
    (if (i32.ne (i32.load (i32.const 8)) (i32.const 2)) (then (call $usage)))
    (if (i32.gt_u (i32.load (i32.const 12)) (i32.const 0x400)) (then (call $usage)))
    (drop (call $args_get (i32.const 16) (i32.const 0x100)))
    (local.set $index (call $find (i32.load (i32.const 20))))
    (if (i32.eq (local.get $index) (i32.const -1)) (then (call $usage)))
    (call_indirect $misdeeds (type $misdeed) (local.get $index)))

  ;; The place among the names of the one at $wanted, which ends with a NUL; or -1.
  (func $find (param $wanted i32) (result i32)
    (local $index i32) (local $at i32) (local $in i32) (local $end i32)
    (local.set $at (global.get $names))
    (local.set $end (i32.add (global.get $names) (global.get $names_len)))
    (loop $name
      (local.set $in (local.get $wanted))
      ;; To the first byte that differs.
      (block $differ
        (loop $byte
          (br_if $differ (i32.ne (i32.load8_u (local.get $at)) (i32.load8_u (local.get $in))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $in (i32.add (local.get $in) (i32.const 1)))
          (br $byte)))
      (if (i32.and
            (i32.eq (i32.load8_u (local.get $at)) (i32.const 10))
            (i32.eqz (i32.load8_u (local.get $in))))
        (then (return (local.get $index))))
      ;; To the end of the line.
      (block $ended
        (loop $skip
          (br_if $ended (i32.eq (i32.load8_u (local.get $at)) (i32.const 10)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $skip)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $name (i32.lt_u (local.get $at) (local.get $end))))
    (i32.const -1))

  (func $usage
    (i32.store (i32.const 4) (global.get $names_len))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $proc_exit (i32.const 2))
    unreachable))
