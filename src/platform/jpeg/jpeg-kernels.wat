;; What decode-jpeg.ts asks for: the entropy-coded blocks of a scan, their transform, and the colours. Sums are those of
;; libjpeg-turbo (jidctint.c, jdsample.c, jdcolor.c), so the bytes are the same.
;;
;; Assembled into jpeg-kernels-binary.ts by scripts/assemble-kernels.ts.
(module
  (memory (export "memory") 1)

  ;; Below 1024: at 0 the order of bytes that begins with the last; at 16 pairs of factors for $pass; at 64 for each of 192
  ;; coefficients in zigzag order its place in a block, in bytes, behind the block for those that there are not; at 256 the
  ;; block and what lies behind it; at 512 and 640 blocks between the passes.
  (data (i32.const 0) "\07\06\05\04\03\02\01\00")
  (data (i32.const 16)
    "\00\20\00\20" "\00\20\00\e0" "\cf\29\51\11" "\51\11\30\d6"
    "\9d\d3\d4\08" "\a1\25\dc\e6" "\a1\25\25\19" "\d5\08\9e\d3"
    "\dc\e6\a1\25" "\9e\d3\2d\f7" "\d4\08\63\2c" "\25\19\a1\25")
  (data (i32.const 64)
    "\00\02\10\20\12\04\06\14\22\30\40\32\24\16\08\0a"
    "\18\26\34\42\50\60\52\44\36\28\1a\0c\0e\1c\2a\38"
    "\46\54\62\70\72\64\56\48\3a\2c\1e\2e\3c\4a\58\66"
    "\74\76\68\5a\4c\3e\4e\5c\6a\78\7a\6c\5e\6e\7c\7e"
    "\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80"
    "\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80"
    "\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80"
    "\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80\80")

  ;; One pass of jidctint.c (8192 times an 8-point transform, rounded to $shift bits less) down the eight columns of a block,
  ;; four at a time. The result is transposed. Each dot product adds the two rows of a pair times their factors.
  (func $pass (param $from i32) (param $to i32) (param $shift i32)
    (local $last i32) (local $round v128)
    (local $p04 v128) (local $p26 v128) (local $p71 v128) (local $p53 v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $e0 v128) (local $e1 v128) (local $e2 v128) (local $e3 v128)
    (local $o0 v128) (local $o1 v128) (local $o2 v128) (local $o3 v128)
    (local.set $round (i32x4.splat (i32.shl (i32.const 1) (i32.sub (local.get $shift) (i32.const 1)))))
    (local.set $last (i32.add (local.get $from) (i32.const 8)))
    (loop $half
      (local.set $p04 (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23
        (v128.load64_zero (local.get $from)) (v128.load64_zero offset=64 (local.get $from))))
      (local.set $p26 (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23
        (v128.load64_zero offset=32 (local.get $from)) (v128.load64_zero offset=96 (local.get $from))))
      (local.set $p71 (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23
        (v128.load64_zero offset=112 (local.get $from)) (v128.load64_zero offset=16 (local.get $from))))
      (local.set $p53 (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23
        (v128.load64_zero offset=80 (local.get $from)) (v128.load64_zero offset=48 (local.get $from))))
      (local.set $a (i32x4.add (local.get $round)
        (i32x4.dot_i16x8_s (local.get $p04) (v128.load32_splat offset=16 (i32.const 0)))))
      (local.set $b (i32x4.add (local.get $round)
        (i32x4.dot_i16x8_s (local.get $p04) (v128.load32_splat offset=20 (i32.const 0)))))
      (local.set $c (i32x4.dot_i16x8_s (local.get $p26) (v128.load32_splat offset=24 (i32.const 0))))
      (local.set $d (i32x4.dot_i16x8_s (local.get $p26) (v128.load32_splat offset=28 (i32.const 0))))
      (local.set $e0 (i32x4.add (local.get $a) (local.get $c)))
      (local.set $e3 (i32x4.sub (local.get $a) (local.get $c)))
      (local.set $e1 (i32x4.add (local.get $b) (local.get $d)))
      (local.set $e2 (i32x4.sub (local.get $b) (local.get $d)))
      (local.set $o3 (i32x4.add
        (i32x4.dot_i16x8_s (local.get $p71) (v128.load32_splat offset=32 (i32.const 0)))
        (i32x4.dot_i16x8_s (local.get $p53) (v128.load32_splat offset=36 (i32.const 0)))))
      (local.set $o2 (i32x4.add
        (i32x4.dot_i16x8_s (local.get $p71) (v128.load32_splat offset=40 (i32.const 0)))
        (i32x4.dot_i16x8_s (local.get $p53) (v128.load32_splat offset=44 (i32.const 0)))))
      (local.set $o1 (i32x4.add
        (i32x4.dot_i16x8_s (local.get $p71) (v128.load32_splat offset=48 (i32.const 0)))
        (i32x4.dot_i16x8_s (local.get $p53) (v128.load32_splat offset=52 (i32.const 0)))))
      (local.set $o0 (i32x4.add
        (i32x4.dot_i16x8_s (local.get $p71) (v128.load32_splat offset=56 (i32.const 0)))
        (i32x4.dot_i16x8_s (local.get $p53) (v128.load32_splat offset=60 (i32.const 0)))))
      ;; Rows 0 and 2, 1 and 3, 4 and 6, 5 and 7 of the result.
      (local.set $a (i16x8.narrow_i32x4_s
        (i32x4.shr_s (i32x4.add (local.get $e0) (local.get $o0)) (local.get $shift))
        (i32x4.shr_s (i32x4.add (local.get $e2) (local.get $o2)) (local.get $shift))))
      (local.set $b (i16x8.narrow_i32x4_s
        (i32x4.shr_s (i32x4.add (local.get $e1) (local.get $o1)) (local.get $shift))
        (i32x4.shr_s (i32x4.add (local.get $e3) (local.get $o3)) (local.get $shift))))
      (local.set $c (i16x8.narrow_i32x4_s
        (i32x4.shr_s (i32x4.sub (local.get $e3) (local.get $o3)) (local.get $shift))
        (i32x4.shr_s (i32x4.sub (local.get $e1) (local.get $o1)) (local.get $shift))))
      (local.set $d (i16x8.narrow_i32x4_s
        (i32x4.shr_s (i32x4.sub (local.get $e2) (local.get $o2)) (local.get $shift))
        (i32x4.shr_s (i32x4.sub (local.get $e0) (local.get $o0)) (local.get $shift))))
      (local.set $e0 (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23 (local.get $a) (local.get $b)))
      (local.set $e1 (i8x16.shuffle 8 9 24 25 10 11 26 27 12 13 28 29 14 15 30 31 (local.get $a) (local.get $b)))
      (local.set $e2 (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23 (local.get $c) (local.get $d)))
      (local.set $e3 (i8x16.shuffle 8 9 24 25 10 11 26 27 12 13 28 29 14 15 30 31 (local.get $c) (local.get $d)))
      (local.set $o0 (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $e0) (local.get $e1)))
      (local.set $o1 (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $e0) (local.get $e1)))
      (local.set $o2 (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $e2) (local.get $e3)))
      (local.set $o3 (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $e2) (local.get $e3)))
      (v128.store (local.get $to)
        (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $o0) (local.get $o2)))
      (v128.store offset=16 (local.get $to)
        (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31 (local.get $o0) (local.get $o2)))
      (v128.store offset=32 (local.get $to)
        (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $o1) (local.get $o3)))
      (v128.store offset=48 (local.get $to)
        (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31 (local.get $o1) (local.get $o3)))
      (local.set $to (i32.add (local.get $to) (i32.const 64)))
      (br_if $half
        (i32.le_u (local.tee $from (i32.add (local.get $from) (i32.const 8))) (local.get $last)))))

  ;; The block at 256, times its divisors, to 8x8 samples.
  (func $block (param $divisors i32) (param $target i32) (param $stride i32)
    (local $at i32)
    (local.set $at (i32.const 256))
    (loop $row
      (v128.store (local.get $at) (i16x8.mul (v128.load (local.get $at)) (v128.load (local.get $divisors))))
      (local.set $divisors (i32.add (local.get $divisors) (i32.const 16)))
      (br_if $row (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (i32.const 384))))
    (call $pass (i32.const 256) (i32.const 512) (i32.const 11))
    (call $pass (i32.const 512) (i32.const 640) (i32.const 18))
    (local.set $at (i32.const 640))
    (loop $row
      (v128.store64_lane 0 (local.get $target)
        (i8x16.narrow_i16x8_u
          (i16x8.add_sat_s (v128.load (local.get $at)) (v128.const i16x8 128 128 128 128 128 128 128 128))
          (v128.const i32x4 0 0 0 0)))
      (local.set $target (i32.add (local.get $target) (local.get $stride)))
      (br_if $row (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (i32.const 768)))))

  ;; The same for a block in which only the first coefficient is not 0.
  (func $flatBlock (param $divisors i32) (param $target i32) (param $stride i32)
    (local $end i32) (local $bytes v128)
    (local.set $bytes (i16x8.splat (i32.add (i32.const 128)
      (i32.shr_s (i32.add (i32.shl (i32.extend16_s (i32.mul (i32.load16_s (i32.const 256)) (i32.load16_s (local.get $divisors)))) (i32.const 2)) (i32.const 16)) (i32.const 5)))))
    (local.set $bytes (i8x16.narrow_i16x8_u (local.get $bytes) (local.get $bytes)))
    (local.set $end (i32.add (local.get $target) (i32.shl (local.get $stride) (i32.const 3))))
    (loop $row
      (v128.store64_lane 0 (local.get $target) (local.get $bytes))
      (br_if $row (i32.lt_u (local.tee $target (i32.add (local.get $target) (local.get $stride))) (local.get $end)))))

  ;; Decodes units of a scan from $unit to $end. Returns where their data ends, -1 for what is no code.
  ;; $scan has the bytes of all its blocks and the units in a row. From 32 on there are 8 words for each block of a unit: the
  ;; tables of huffman-table.ts for the first coefficient and for the others; divisors; the sum of first coefficients; the
  ;; place of its samples in the first unit; the bytes from a row of samples to the next, and to the next unit in the row and
  ;; in the column.
  ;; $bits holds the next bits, $have of them for sure, from the highest on.
  (func (export "decodeUnits") (param $scan i32) (param $unit i32) (param $end i32) (param $data i32) (param $dataEnd i32)
    (result i32)
    (local $bits i64) (local $have i32) (local $block i32) (local $endBlock i32) (local $column i32) (local $row i32)
    (local $columns i32) (local $table i32) (local $entry i32) (local $k i32) (local $length i32) (local $size i32)
    (local $value i32) (local $code i32) (local $target i32)
    (local.set $columns (i32.load offset=4 (local.get $scan)))
    (local.set $row (i32.div_u (local.get $unit) (local.get $columns)))
    (local.set $column (i32.rem_u (local.get $unit) (local.get $columns)))
    (local.set $endBlock (i32.add (i32.add (local.get $scan) (i32.const 32)) (i32.load (local.get $scan))))
    (loop $nextUnit
      (local.set $block (i32.add (local.get $scan) (i32.const 32)))
      (loop $nextBlock
        (v128.store offset=256 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=272 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=288 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=304 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=320 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=336 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=352 (i32.const 0) (v128.const i32x4 0 0 0 0))
        (v128.store offset=368 (i32.const 0) (v128.const i32x4 0 0 0 0))
        ;; The last coefficient that was read.
        (local.set $k (i32.const -1))
        (local.set $table (i32.load (local.get $block)))
        (loop $nextCoefficient
          (if (i32.lt_u (local.get $have) (i32.const 32))
            (then
              (local.set $bits (i64.or (local.get $bits)
                (i64.shr_u
                  (i64x2.extract_lane 0
                    (i8x16.swizzle (v128.load64_zero (local.get $data)) (v128.load64_zero (i32.const 0))))
                  (i64.extend_i32_u (local.get $have)))))
              (local.set $length (i32.shr_u (i32.sub (i32.const 63) (local.get $have)) (i32.const 3)))
              (local.set $data (i32.add (local.get $data) (local.get $length)))
              (local.set $have (i32.add (local.get $have) (i32.shl (local.get $length) (i32.const 3))))))
          (local.set $entry (i32.load (i32.add (local.get $table)
            (i32.shl (i32.wrap_i64 (i64.shr_u (local.get $bits) (i64.const 54))) (i32.const 2)))))
          (if (i32.and (local.get $entry) (i32.const 128))
            (then
              (if (i32.eqz (local.tee $length (i32.and (local.get $entry) (i32.const 31))))
                (then
                  ;; A code of more than 10 bits.
                  (local.set $code (i32.wrap_i64 (i64.shr_u (local.get $bits) (i64.const 48))))
                  (local.set $length (i32.const 11))
                  (local.set $size (local.get $table))
                  (loop $longer
                    (if (i32.ge_u (local.get $code) (i32.load offset=4096 (local.get $size)))
                      (then
                        (local.set $size (i32.add (local.get $size) (i32.const 8)))
                        (br_if $longer (i32.le_u (local.tee $length (i32.add (local.get $length) (i32.const 1))) (i32.const 16)))
                        (return (i32.const -1)))))
                  (local.set $entry (i32.load offset=4160 (i32.add (local.get $table)
                    (i32.shl
                      (i32.add
                        (i32.shr_u (local.get $code) (i32.sub (i32.const 16) (local.get $length)))
                        (i32.load offset=4100 (local.get $size)))
                      (i32.const 2)))))))
              (local.set $bits (i64.shl (local.get $bits) (i64.extend_i32_u (local.get $length))))
              (local.set $have (i32.sub (local.get $have) (local.get $length)))
              (local.set $size (i32.and (i32.shr_u (local.get $entry) (i32.const 16)) (i32.const 15)))
              (local.set $value (i32.const 0))
              (if (local.get $size)
                (then
                  (local.set $value (i32.wrap_i64 (i64.shr_u (local.get $bits)
                    (i64.extend_i32_u (i32.sub (i32.const 64) (local.get $size))))))
                  (if (i32.eqz (i32.shr_u (local.get $value) (i32.sub (local.get $size) (i32.const 1))))
                    (then (local.set $value (i32.add (local.get $value)
                      (i32.sub (i32.const 1) (i32.shl (i32.const 1) (local.get $size)))))))))
              (local.set $entry (i32.or (local.get $size)
                (i32.or (i32.shl (local.get $value) (i32.const 16)) (i32.and (local.get $entry) (i32.const 0xff00)))))))
          (local.set $length (i32.and (local.get $entry) (i32.const 127)))
          (local.set $bits (i64.shl (local.get $bits) (i64.extend_i32_u (local.get $length))))
          (local.set $have (i32.sub (local.get $have) (local.get $length)))
          (if (i32.eq (local.get $k) (i32.const -1))
            (then
              (local.set $length (i32.load offset=12 (local.get $block)))
              (i32.store (local.get $length)
                (local.tee $value (i32.add (i32.load (local.get $length)) (i32.shr_s (local.get $entry) (i32.const 16)))))
              (i32.store16 offset=256 (i32.const 0) (local.get $value))
              (local.set $table (i32.load offset=4 (local.get $block)))
              (local.set $k (i32.const 0)))
            (else
              (local.set $k (i32.add (local.get $k) (i32.and (i32.shr_u (local.get $entry) (i32.const 8)) (i32.const 255))))
              (i32.store16 offset=256
                (i32.load8_u offset=64 (local.get $k))
                (i32.shr_s (local.get $entry) (i32.const 16)))))
          (br_if $nextCoefficient (i32.lt_u (local.get $k) (i32.const 63))))
        ;; A run has led beyond the block.
        (if (i32.and (i32.gt_u (local.get $k) (i32.const 63)) (i32.lt_u (local.get $k) (i32.const 128)))
          (then (return (i32.const -1))))
        (local.set $target (i32.add (i32.load offset=16 (local.get $block))
          (i32.add
            (i32.mul (local.get $column) (i32.load offset=24 (local.get $block)))
            (i32.mul (local.get $row) (i32.load offset=28 (local.get $block))))))
        (if (i32.eq (local.get $k) (i32.const 128))
          (then (call $flatBlock (i32.load offset=8 (local.get $block)) (local.get $target) (i32.load offset=20 (local.get $block))))
          (else (call $block (i32.load offset=8 (local.get $block)) (local.get $target) (i32.load offset=20 (local.get $block)))))
        (br_if $nextBlock
          (i32.lt_u (local.tee $block (i32.add (local.get $block) (i32.const 32))) (local.get $endBlock))))
      ;; Zeros follow the data. What is read ahead is at most 8 bytes.
      (if (i32.gt_u (local.get $data) (i32.add (local.get $dataEnd) (i32.const 8))) (then (return (i32.const -1))))
      (if (i32.eq (local.tee $column (i32.add (local.get $column) (i32.const 1))) (local.get $columns))
        (then
          (local.set $column (i32.const 0))
          (local.set $row (i32.add (local.get $row) (i32.const 1)))))
      (br_if $nextUnit
        (i32.lt_u (local.tee $unit (i32.add (local.get $unit) (i32.const 1))) (local.get $end))))
    (i32.sub (local.get $data) (i32.shr_u (local.get $have) (i32.const 3))))

  ;; A row of $count samples to twice as many: three quarters of the nearest and one of the next, in both directions.
  ;; $sums is room for $count + 2 sums of 16 bits; $even and $odd are added before they are divided by 16.
  (func (export "upsample")
    (param $near i32) (param $far i32) (param $count i32) (param $even i32) (param $odd i32) (param $sums i32)
    (param $target i32)
    (local $at i32) (local $end i32) (local $i i32) (local $three v128) (local $evens v128) (local $odds v128)
    (local.set $end (i32.add (local.get $sums) (i32.shl (local.get $count) (i32.const 1))))
    (local.set $at (local.get $sums))
    (loop $next
      (v128.store offset=2 (local.get $at)
        (i16x8.add
          (i16x8.mul (v128.load8x8_u (i32.add (local.get $near) (local.get $i))) (v128.const i16x8 3 3 3 3 3 3 3 3))
          (v128.load8x8_u (i32.add (local.get $far) (local.get $i)))))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (local.get $end))))
    (i32.store16 (local.get $sums) (i32.load16_u offset=2 (local.get $sums)))
    (i32.store16 offset=2 (local.get $end) (i32.load16_u (local.get $end)))
    (local.set $evens (i16x8.splat (local.get $even)))
    (local.set $odds (i16x8.splat (local.get $odd)))
    (loop $next
      (local.set $three
        (i16x8.mul (v128.load offset=2 (local.get $sums)) (v128.const i16x8 3 3 3 3 3 3 3 3)))
      (v128.store (local.get $target)
        (v128.or
          (i16x8.shr_u (i16x8.add (i16x8.add (local.get $three) (local.get $evens)) (v128.load (local.get $sums))) (i32.const 4))
          (i16x8.shl
            (i16x8.shr_u (i16x8.add (i16x8.add (local.get $three) (local.get $odds)) (v128.load offset=4 (local.get $sums))) (i32.const 4))
            (i32.const 8))))
      (local.set $target (i32.add (local.get $target) (i32.const 16)))
      (br_if $next (i32.lt_u (local.tee $sums (i32.add (local.get $sums) (i32.const 16))) (local.get $end)))))

  ;; A row of YCbCr to RGB: R = Y + 1.402 Cr, G = Y - 0.34414 Cb - 0.71414 Cr, B = Y + 1.772 Cb in 65536ths, of which
  ;; 0.402, 0.28586 - 1 and 2 - 0.228 fit into 16 bits. The factor of 2 is half of what rounds.
  (func (export "toRgb") (param $y i32) (param $cb i32) (param $cr i32) (param $count i32) (param $target i32)
    (local $end i32) (local $luma v128) (local $blue v128) (local $red v128) (local $two v128) (local $rg v128) (local $b v128)
    (local.set $end (i32.add (local.get $y) (local.get $count)))
    (local.set $two (v128.const i16x8 2 2 2 2 2 2 2 2))
    (loop $next
      (local.set $luma (v128.load8x8_u (local.get $y)))
      (local.set $blue (i16x8.sub (v128.load8x8_u (local.get $cb)) (v128.const i16x8 128 128 128 128 128 128 128 128)))
      (local.set $red (i16x8.sub (v128.load8x8_u (local.get $cr)) (v128.const i16x8 128 128 128 128 128 128 128 128)))
      (local.set $rg
        (i8x16.narrow_i16x8_u
          (i16x8.add (i16x8.add (local.get $luma) (local.get $red))
            (i16x8.narrow_i32x4_s
              (i32x4.shr_s (i32x4.dot_i16x8_s
                (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23 (local.get $red) (local.get $two))
                (v128.const i16x8 26345 16384 26345 16384 26345 16384 26345 16384)) (i32.const 16))
              (i32x4.shr_s (i32x4.dot_i16x8_s
                (i8x16.shuffle 8 9 24 25 10 11 26 27 12 13 28 29 14 15 30 31 (local.get $red) (local.get $two))
                (v128.const i16x8 26345 16384 26345 16384 26345 16384 26345 16384)) (i32.const 16))))
          (i16x8.add (i16x8.sub (local.get $luma) (local.get $red))
            (i16x8.narrow_i32x4_s
              (i32x4.shr_s (i32x4.add (v128.const i32x4 32768 32768 32768 32768) (i32x4.dot_i16x8_s
                (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23 (local.get $blue) (local.get $red))
                (v128.const i16x8 -22554 18734 -22554 18734 -22554 18734 -22554 18734))) (i32.const 16))
              (i32x4.shr_s (i32x4.add (v128.const i32x4 32768 32768 32768 32768) (i32x4.dot_i16x8_s
                (i8x16.shuffle 8 9 24 25 10 11 26 27 12 13 28 29 14 15 30 31 (local.get $blue) (local.get $red))
                (v128.const i16x8 -22554 18734 -22554 18734 -22554 18734 -22554 18734))) (i32.const 16))))))
      (local.set $b
        (i16x8.add (i16x8.add (local.get $luma) (i16x8.shl (local.get $blue) (i32.const 1)))
          (i16x8.narrow_i32x4_s
            (i32x4.shr_s (i32x4.dot_i16x8_s
              (i8x16.shuffle 0 1 16 17 2 3 18 19 4 5 20 21 6 7 22 23 (local.get $blue) (local.get $two))
              (v128.const i16x8 -14942 16384 -14942 16384 -14942 16384 -14942 16384)) (i32.const 16))
            (i32x4.shr_s (i32x4.dot_i16x8_s
              (i8x16.shuffle 8 9 24 25 10 11 26 27 12 13 28 29 14 15 30 31 (local.get $blue) (local.get $two))
              (v128.const i16x8 -14942 16384 -14942 16384 -14942 16384 -14942 16384)) (i32.const 16)))))
      (local.set $b (i8x16.narrow_i16x8_u (local.get $b) (local.get $b)))
      (v128.store (local.get $target)
        (i8x16.shuffle 0 8 16 1 9 17 2 10 18 3 11 19 4 12 20 5 (local.get $rg) (local.get $b)))
      (v128.store64_lane offset=16 0 (local.get $target)
        (i8x16.shuffle 13 21 6 14 22 7 15 23 0 0 0 0 0 0 0 0 (local.get $rg) (local.get $b)))
      (local.set $cb (i32.add (local.get $cb) (i32.const 8)))
      (local.set $cr (i32.add (local.get $cr) (i32.const 8)))
      (local.set $target (i32.add (local.get $target) (i32.const 24)))
      (br_if $next (i32.lt_u (local.tee $y (i32.add (local.get $y) (i32.const 8))) (local.get $end)))))
)
