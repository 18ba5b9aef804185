;; What a training step does to its state after the gradients are known, four float32 values at a time.
;; `npx tsx scripts/assemble-kernels.ts` assembles this file into host-kernels-binary.ts. Addresses are in bytes; every
;; vector is a multiple of 32 bytes long.
(module
  (import "host" "memory" (memory 0))

  ;; $sum += $gradient, until $end of $gradient.
  (func (export "add") (param $sum i32) (param $gradient i32) (param $end i32)
    (loop $next
      (v128.store (local.get $sum)
        (f32x4.add (v128.load (local.get $sum)) (v128.load (local.get $gradient))))
      (local.set $sum (i32.add (local.get $sum) (i32.const 16)))
      (local.set $gradient (i32.add (local.get $gradient) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $gradient) (local.get $end)))))

  ;; The sum of squares from $vector to $end in float64, in eight sums, because one addition has to wait for the other.
  (func (export "squaredNorm") (param $vector i32) (param $end i32) (result f64)
    (local $x v128)
    (local $sum0 v128) (local $sum1 v128) (local $sum2 v128) (local $sum3 v128)
    (loop $next
      (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero (local.get $vector))))
      (local.set $sum0 (f64x2.add (local.get $sum0) (f64x2.mul (local.get $x) (local.get $x))))
      (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero offset=8 (local.get $vector))))
      (local.set $sum1 (f64x2.add (local.get $sum1) (f64x2.mul (local.get $x) (local.get $x))))
      (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero offset=16 (local.get $vector))))
      (local.set $sum2 (f64x2.add (local.get $sum2) (f64x2.mul (local.get $x) (local.get $x))))
      (local.set $x (f64x2.promote_low_f32x4 (v128.load64_zero offset=24 (local.get $vector))))
      (local.set $sum3 (f64x2.add (local.get $sum3) (f64x2.mul (local.get $x) (local.get $x))))
      (local.set $vector (i32.add (local.get $vector) (i32.const 32)))
      (br_if $next (i32.lt_u (local.get $vector) (local.get $end))))
    (local.set $sum0
      (f64x2.add
        (f64x2.add (local.get $sum0) (local.get $sum1))
        (f64x2.add (local.get $sum2) (local.get $sum3))))
    (f64.add (f64x2.extract_lane 0 (local.get $sum0)) (f64x2.extract_lane 1 (local.get $sum0))))

  ;; The updates: a step of an optimizer of src/graph/optimizers, and `emaStep` of src/graph/optimizer.ts, until $end of
  ;; $gradient. Without an average, $average is $p, and without a moment, $m is $p, which is written last.
  ;;
  ;; `adamStep`:
  ;;   g = gradientScale gradient
  ;;   m = beta1 m + g
  ;;   v = beta2 v + g^2
  ;;   p' = p - (decay p + stepSize m / (sqrt(v) + epsilon))
  ;;   average = average - emaRate (average - p')
  ;; decay = 1 - decayFactor: in float32 a factor so near 1 would lose the digits of the weight decay, as it does in torch.
  (func (export "adam")
    (param $p i32) (param $m i32) (param $v i32) (param $average i32) (param $gradient i32) (param $end i32)
    (param $gradientScale f32) (param $beta1 f32) (param $beta2 f32)
    (param $stepSize f32) (param $epsilon f32) (param $decay f32) (param $emaRate f32)
    (local $g4 v128) (local $m4 v128) (local $v4 v128) (local $p4 v128) (local $average4 v128)
    (loop $next
      (local.set $g4 (f32x4.mul (v128.load (local.get $gradient)) (f32x4.splat (local.get $gradientScale))))
      (local.set $m4
        (f32x4.add (f32x4.mul (v128.load (local.get $m)) (f32x4.splat (local.get $beta1))) (local.get $g4)))
      (local.set $v4
        (f32x4.add
          (f32x4.mul (v128.load (local.get $v)) (f32x4.splat (local.get $beta2)))
          (f32x4.mul (local.get $g4) (local.get $g4))))
      (local.set $p4 (v128.load (local.get $p)))
      (local.set $p4
        (f32x4.sub
          (local.get $p4)
          (f32x4.add
            (f32x4.mul (local.get $p4) (f32x4.splat (local.get $decay)))
            (f32x4.div
              (f32x4.mul (local.get $m4) (f32x4.splat (local.get $stepSize)))
              (f32x4.add (f32x4.sqrt (local.get $v4)) (f32x4.splat (local.get $epsilon)))))))
      (local.set $average4 (v128.load (local.get $average)))
      (v128.store (local.get $m) (local.get $m4))
      (v128.store (local.get $v) (local.get $v4))
      (v128.store (local.get $average)
        (f32x4.sub
          (local.get $average4)
          (f32x4.mul
            (f32x4.sub (local.get $average4) (local.get $p4))
            (f32x4.splat (local.get $emaRate)))))
      (v128.store (local.get $p) (local.get $p4))
      (local.set $p (i32.add (local.get $p) (i32.const 16)))
      (local.set $m (i32.add (local.get $m) (i32.const 16)))
      (local.set $v (i32.add (local.get $v) (i32.const 16)))
      (local.set $average (i32.add (local.get $average) (i32.const 16)))
      (local.set $gradient (i32.add (local.get $gradient) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $gradient) (local.get $end)))))

  ;; `sgdStep`:
  ;;   g = gradientScale gradient + weightDecay p
  ;;   m = momentum m + g
  ;;   p' = p - stepSize (ownShare g + momentShare m)
  (func (export "sgd")
    (param $p i32) (param $m i32) (param $average i32) (param $gradient i32) (param $end i32)
    (param $gradientScale f32) (param $momentum f32) (param $weightDecay f32)
    (param $ownShare f32) (param $momentShare f32) (param $stepSize f32) (param $emaRate f32)
    (local $g4 v128) (local $m4 v128) (local $p4 v128) (local $average4 v128)
    (loop $next
      (local.set $p4 (v128.load (local.get $p)))
      (local.set $g4
        (f32x4.add
          (f32x4.mul (v128.load (local.get $gradient)) (f32x4.splat (local.get $gradientScale)))
          (f32x4.mul (local.get $p4) (f32x4.splat (local.get $weightDecay)))))
      (local.set $m4
        (f32x4.add (f32x4.mul (v128.load (local.get $m)) (f32x4.splat (local.get $momentum))) (local.get $g4)))
      (local.set $p4
        (f32x4.sub
          (local.get $p4)
          (f32x4.mul
            (f32x4.add
              (f32x4.mul (local.get $g4) (f32x4.splat (local.get $ownShare)))
              (f32x4.mul (local.get $m4) (f32x4.splat (local.get $momentShare))))
            (f32x4.splat (local.get $stepSize)))))
      (local.set $average4 (v128.load (local.get $average)))
      (v128.store (local.get $m) (local.get $m4))
      (v128.store (local.get $average)
        (f32x4.sub
          (local.get $average4)
          (f32x4.mul
            (f32x4.sub (local.get $average4) (local.get $p4))
            (f32x4.splat (local.get $emaRate)))))
      (v128.store (local.get $p) (local.get $p4))
      (local.set $p (i32.add (local.get $p) (i32.const 16)))
      (local.set $m (i32.add (local.get $m) (i32.const 16)))
      (local.set $average (i32.add (local.get $average) (i32.const 16)))
      (local.set $gradient (i32.add (local.get $gradient) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $gradient) (local.get $end)))))

  ;; `lionStep`:
  ;;   g = gradientScale gradient
  ;;   p' = p - (decay p + stepSize sign(beta1 m + rest1 g))
  ;;   m = beta2 m + rest2 g
  ;; rest1 = 1 - beta1, rest2 = 1 - beta2, decay = 1 - decayFactor.
  (func (export "lion")
    (param $p i32) (param $m i32) (param $average i32) (param $gradient i32) (param $end i32)
    (param $gradientScale f32) (param $beta1 f32) (param $rest1 f32) (param $beta2 f32) (param $rest2 f32)
    (param $stepSize f32) (param $decay f32) (param $emaRate f32)
    (local $g4 v128) (local $m4 v128) (local $p4 v128) (local $sign4 v128) (local $average4 v128)
    (loop $next
      (local.set $g4 (f32x4.mul (v128.load (local.get $gradient)) (f32x4.splat (local.get $gradientScale))))
      (local.set $m4 (v128.load (local.get $m)))
      (local.set $sign4
        (f32x4.add
          (f32x4.mul (local.get $m4) (f32x4.splat (local.get $beta1)))
          (f32x4.mul (local.get $g4) (f32x4.splat (local.get $rest1)))))
      ;; 1 with the sign bit of the sum, and 0 where the sum is 0.
      (local.set $sign4
        (v128.and
          (v128.or
            (v128.and (local.get $sign4) (i32x4.splat (i32.const 0x80000000)))
            (f32x4.splat (f32.const 1)))
          (f32x4.ne (local.get $sign4) (f32x4.splat (f32.const 0)))))
      (local.set $m4
        (f32x4.add
          (f32x4.mul (local.get $m4) (f32x4.splat (local.get $beta2)))
          (f32x4.mul (local.get $g4) (f32x4.splat (local.get $rest2)))))
      (local.set $p4 (v128.load (local.get $p)))
      (local.set $p4
        (f32x4.sub
          (local.get $p4)
          (f32x4.add
            (f32x4.mul (local.get $p4) (f32x4.splat (local.get $decay)))
            (f32x4.mul (local.get $sign4) (f32x4.splat (local.get $stepSize))))))
      (local.set $average4 (v128.load (local.get $average)))
      (v128.store (local.get $m) (local.get $m4))
      (v128.store (local.get $average)
        (f32x4.sub
          (local.get $average4)
          (f32x4.mul
            (f32x4.sub (local.get $average4) (local.get $p4))
            (f32x4.splat (local.get $emaRate)))))
      (v128.store (local.get $p) (local.get $p4))
      (local.set $p (i32.add (local.get $p) (i32.const 16)))
      (local.set $m (i32.add (local.get $m) (i32.const 16)))
      (local.set $average (i32.add (local.get $average) (i32.const 16)))
      (local.set $gradient (i32.add (local.get $gradient) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $gradient) (local.get $end))))))
