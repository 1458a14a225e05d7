#!/usr/bin/env bash
# What a larger teacher brings, validation only: bash distillation.sh FOLDER --teacher ARTIFACT [FLAGS...]
folder=${1:?name a folder for the runs}
sed "s|^|$folder/|" <<'RUNS' | xargs -P "${JOBS:-1}" -L 1 python -m trainer --resume --skip-test "${@:2}" --output-dir
distilled --recipe record --max-epochs 200 --warmup-fraction 0.025
distilled-half --recipe record --max-epochs 200 --warmup-fraction 0.025 --teacher-weight 0.5
distilled-t1 --recipe record --max-epochs 200 --warmup-fraction 0.025 --teacher-weight 1.0 --teacher-temperature 1.0 --label-smoothing 0
distilled-default --max-epochs 200
RUNS
