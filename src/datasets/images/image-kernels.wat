;; The two passes of `resizeImage` in resize.ts and the arithmetic of `fillSample` in augment.ts, 4 or 8 values at a time.
;;
;; Both passes take a table with an entry for each target: the place of its first tap in bytes (i32), 4 bytes of padding, and
;; $pairs pairs of weights. A weight w of 22 fractional bits is 2^11 high + low with 0 <= low < 2^11. A pair of taps has the
;; 16-bit halves [high, high, low, low], because one instruction multiplies 16-bit values and adds them in pairs:
;;   sum of p w = 2^11 (sum of p high) + (sum of p low),
;; modulo 2^32 as in Pillow, so the bytes are the same. Unused taps have the weight 0; what they read is in the memory.
;;
;; Assembled into image-kernels-binary.ts by scripts/assemble-kernels.ts.
(module
  (memory (export "memory") 1)

  ;; At 16 channels: where the bytes of a pixel and of the next go, so that each channel has its two taps side by side.
  (data (i32.const 16) "\00\ff\01\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff\ff")
  (data (i32.const 48) "\00\ff\03\ff\01\ff\04\ff\02\ff\05\ff\ff\ff\ff\ff")
  (data (i32.const 64) "\00\ff\04\ff\01\ff\05\ff\02\ff\06\ff\03\ff\07\ff")

  ;; Rounds 2^11 high + low to bytes, in the lowest four.
  (func $bytes (param $high v128) (param $low v128) (result v128)
    (local.set $low
      (i32x4.shr_s
        (i32x4.add
          (i32x4.add (i32x4.shl (local.get $high) (i32.const 11)) (local.get $low))
          (v128.const i32x4 0x200000 0x200000 0x200000 0x200000))
        (i32.const 22)))
    (local.set $low (i16x8.narrow_i32x4_s (local.get $low) (local.get $low)))
    (i8x16.narrow_i16x8_u (local.get $low) (local.get $low)))

  ;; $lines lines of $lineBytes, whose taps are pixels of $channels bytes, to $kept pixels each. Writes 3 bytes too many.
  (func (export "alongRows")
    (param $source i32) (param $lineBytes i32) (param $lines i32) (param $channels i32)
    (param $table i32) (param $pairs i32) (param $kept i32) (param $target i32)
    (local $entry i32) (local $end i32) (local $tap i32) (local $left i32) (local $pixel i32) (local $mask v128)
    (local $taps v128) (local $high v128) (local $low v128)
    (local.set $mask (v128.load (i32.shl (local.get $channels) (i32.const 4))))
    (loop $line
      (local.set $entry (local.get $table))
      (local.set $left (local.get $kept))
      (loop $next
        (local.set $pixel (i32.add (local.get $source) (i32.load (local.get $entry))))
        (local.set $tap (i32.add (local.get $entry) (i32.const 8)))
        (local.set $end (i32.add (local.get $tap) (i32.shl (local.get $pairs) (i32.const 3))))
        (local.set $high (v128.const i32x4 0 0 0 0))
        (local.set $low (v128.const i32x4 0 0 0 0))
        (loop $pair
          (local.set $taps (i8x16.swizzle (v128.load64_zero (local.get $pixel)) (local.get $mask)))
          (local.set $high
            (i32x4.add
              (local.get $high)
              (i32x4.dot_i16x8_s (local.get $taps) (v128.load32_splat (local.get $tap)))))
          (local.set $low
            (i32x4.add
              (local.get $low)
              (i32x4.dot_i16x8_s (local.get $taps) (v128.load32_splat offset=4 (local.get $tap)))))
          (local.set $pixel (i32.add (local.get $pixel) (i32.shl (local.get $channels) (i32.const 1))))
          (br_if $pair
            (i32.lt_u (local.tee $tap (i32.add (local.get $tap) (i32.const 8))) (local.get $end))))
        (v128.store32_lane 0 (local.get $target) (call $bytes (local.get $high) (local.get $low)))
        (local.set $target (i32.add (local.get $target) (local.get $channels)))
        (local.set $entry (local.get $end))
        (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (local.set $source (i32.add (local.get $source) (local.get $lineBytes)))
      (br_if $line (local.tee $lines (i32.sub (local.get $lines) (i32.const 1))))))

  ;; Rows of $rowBytes, which are the taps, to one row by the entry of a table. Reads and writes 7 bytes too many.
  (func (export "acrossRows")
    (param $source i32) (param $rowBytes i32) (param $entry i32) (param $pairs i32) (param $target i32)
    (local $row i32) (local $tap i32) (local $begin i32) (local $end i32) (local $targetEnd i32) (local $taps v128)
    (local $high0 v128) (local $low0 v128) (local $high1 v128) (local $low1 v128) (local $left v128) (local $right v128)
    (local.set $source (i32.add (local.get $source) (i32.load (local.get $entry))))
    (local.set $begin (i32.add (local.get $entry) (i32.const 8)))
    (local.set $end (i32.add (local.get $begin) (i32.shl (local.get $pairs) (i32.const 3))))
    (local.set $targetEnd (i32.add (local.get $target) (local.get $rowBytes)))
    (loop $next
      (local.set $row (local.get $source))
      (local.set $tap (local.get $begin))
      (local.set $high0 (v128.const i32x4 0 0 0 0))
      (local.set $high1 (v128.const i32x4 0 0 0 0))
      (local.set $low0 (v128.const i32x4 0 0 0 0))
      (local.set $low1 (v128.const i32x4 0 0 0 0))
      (loop $pair
        (local.set $taps
          (i8x16.shuffle 0 16 1 17 2 18 3 19 4 20 5 21 6 22 7 23
            (v128.load64_zero (local.get $row))
            (v128.load64_zero (i32.add (local.get $row) (local.get $rowBytes)))))
        (local.set $left (i16x8.extend_low_i8x16_u (local.get $taps)))
        (local.set $right (i16x8.extend_high_i8x16_u (local.get $taps)))
        (local.set $taps (v128.load32_splat (local.get $tap)))
        (local.set $high0 (i32x4.add (local.get $high0) (i32x4.dot_i16x8_s (local.get $left) (local.get $taps))))
        (local.set $high1 (i32x4.add (local.get $high1) (i32x4.dot_i16x8_s (local.get $right) (local.get $taps))))
        (local.set $taps (v128.load32_splat offset=4 (local.get $tap)))
        (local.set $low0 (i32x4.add (local.get $low0) (i32x4.dot_i16x8_s (local.get $left) (local.get $taps))))
        (local.set $low1 (i32x4.add (local.get $low1) (i32x4.dot_i16x8_s (local.get $right) (local.get $taps))))
        (local.set $row (i32.add (local.get $row) (i32.shl (local.get $rowBytes) (i32.const 1))))
        (br_if $pair
          (i32.lt_u (local.tee $tap (i32.add (local.get $tap) (i32.const 8))) (local.get $end))))
      (v128.store32_lane 0 (local.get $target) (call $bytes (local.get $high0) (local.get $low0)))
      (v128.store32_lane offset=4 0 (local.get $target) (call $bytes (local.get $high1) (local.get $low1)))
      (local.set $source (i32.add (local.get $source) (i32.const 8)))
      (br_if $next
        (i32.lt_u (local.tee $target (i32.add (local.get $target) (i32.const 8))) (local.get $targetEnd)))))

  ;; One channel of $rows rows of $width pixels as floats: byte x becomes (2 x - 255) / 255, whose one rounding gives the
  ;; float of x / 127.5 - 1. $step bytes are from one pixel to the next, below 0 from right to left. Reads 3 pixels beyond a
  ;; row, and writes 3 values too many.
  (func (export "toFloats")
    (param $source i32) (param $rowBytes i32) (param $rows i32) (param $step i32) (param $width i32) (param $target i32)
    (local $pixel i32) (local $twoSteps i32) (local $threeSteps i32) (local $end i32) (local $values v128)
    (local.set $twoSteps (i32.shl (local.get $step) (i32.const 1)))
    (local.set $threeSteps (i32.add (local.get $twoSteps) (local.get $step)))
    (loop $row
      (local.set $pixel (local.get $source))
      (local.set $end (i32.add (local.get $target) (i32.shl (local.get $width) (i32.const 2))))
      (loop $next
        (local.set $values (v128.load8_lane 0 (local.get $pixel) (v128.const i32x4 0 0 0 0)))
        (local.set $values
          (v128.load8_lane 4 (i32.add (local.get $pixel) (local.get $step)) (local.get $values)))
        (local.set $values
          (v128.load8_lane 8 (i32.add (local.get $pixel) (local.get $twoSteps)) (local.get $values)))
        (local.set $values
          (v128.load8_lane 12 (i32.add (local.get $pixel) (local.get $threeSteps)) (local.get $values)))
        (v128.store
          (local.get $target)
          (f32x4.div
            (f32x4.convert_i32x4_s
              (i32x4.sub (i32x4.shl (local.get $values) (i32.const 1)) (v128.const i32x4 255 255 255 255)))
            (v128.const f32x4 255 255 255 255)))
        (local.set $pixel (i32.add (local.get $pixel) (i32.shl (local.get $step) (i32.const 2))))
        (br_if $next
          (i32.lt_u (local.tee $target (i32.add (local.get $target) (i32.const 16))) (local.get $end))))
      (local.set $target (local.get $end))
      (local.set $source (i32.add (local.get $source) (local.get $rowBytes)))
      (br_if $row (local.tee $rows (i32.sub (local.get $rows) (i32.const 1)))))))
