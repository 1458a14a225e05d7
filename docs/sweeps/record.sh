#!/usr/bin/env bash
# Which settings the record recipe should have: 200 epochs, 5 of them warm-up as in the whole of it, validation only.
exec bash "$(dirname "$0")/train.sh" "$@" --no-test <<'RUNS'
record-200              --recipe record --max-epochs 200 --warmup-fraction 0.025
record-200-batch-1024   --recipe record --max-epochs 200 --warmup-fraction 0.025 --batch-size 1024
record-200-lr-0.1       --recipe record --max-epochs 200 --warmup-fraction 0.025 --learning-rate 0.1
record-200-wd-1e-4      --recipe record --max-epochs 200 --warmup-fraction 0.025 --weight-decay 1e-4
record-200-no-ta        --recipe record --max-epochs 200 --warmup-fraction 0.025 --no-trivial-augment
record-200-no-mixing    --recipe record --max-epochs 200 --warmup-fraction 0.025 --mixup 0 --cutmix 0
default-200             --max-epochs 200
RUNS
