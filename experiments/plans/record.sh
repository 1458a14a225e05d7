#!/usr/bin/env bash
# Settings of the record recipe, validation only: bash record.sh FOLDER [FLAGS...]
folder=${1:?name a folder for the runs}
sed "s|^|$folder/|" <<'RUNS' | xargs -P "${JOBS:-1}" -L 1 python -m trainer --resume --skip-test --max-epochs 200 "${@:2}" --output-dir
record-200 --recipe record
record-200-lr-0.5 --recipe record --learning-rate 0.5
record-200-lr-1.6 --recipe record --learning-rate 1.6
record-200-batch-128 --recipe record --batch-size 128 --learning-rate 0.25
record-200-wd-3e-4 --recipe record --weight-decay 3e-4
record-200-mixup-cutmix --recipe record --ricap 0 --mixup 0.2 --cutmix 1.0
record-200-ricap-mixup --recipe record --mixup 0.2
record-200-ta --recipe record --trivial-augment
record-200-no-ema --recipe record --ema-fraction 0
default-200
default-200-ricap --ricap 0.3 --mix-probability 0.75 --mix-until 0.95
RUNS
