#!/usr/bin/env bash
# Settings of the record recipe, validation only: bash record.sh FOLDER [FLAGS...]. 5 epochs of warm-up, as in the whole.
folder=${1:?name a folder for the runs}
sed "s|^|$folder/|" <<'RUNS' | xargs -P "${JOBS:-1}" -L 1 python -m trainer --resume --skip-test "${@:2}" --output-dir
record-200 --recipe record --max-epochs 200 --warmup-fraction 0.025
record-200-batch-1024 --recipe record --max-epochs 200 --warmup-fraction 0.025 --batch-size 1024
record-200-lr-0.1 --recipe record --max-epochs 200 --warmup-fraction 0.025 --learning-rate 0.1
record-200-wd-1e-4 --recipe record --max-epochs 200 --warmup-fraction 0.025 --weight-decay 1e-4
record-200-no-ta --recipe record --max-epochs 200 --warmup-fraction 0.025 --no-trivial-augment
record-200-no-mixing --recipe record --max-epochs 200 --warmup-fraction 0.025 --mixup 0 --cutmix 0
default-200 --max-epochs 200
RUNS
