#!/usr/bin/env bash
# What a larger teacher brings, 200 epochs, validation only. Give it --teacher FOLDER.
exec bash "$(dirname "$0")/train.sh" "$@" --no-test <<'RUNS'
distilled               --recipe record --max-epochs 200 --warmup-fraction 0.025
distilled-half          --recipe record --max-epochs 200 --warmup-fraction 0.025 --teacher-weight 0.5
distilled-t1            --recipe record --max-epochs 200 --warmup-fraction 0.025 --teacher-weight 1.0 --teacher-temperature 1.0 --label-smoothing 0
distilled-default       --max-epochs 200
RUNS
