#!/usr/bin/env bash
# What a teacher brings, validation only: bash distillation.sh FOLDER --teacher ARTIFACT [FLAGS...]
folder=${1:?name a folder for the runs}
sed "s|^|$folder/|" <<'RUNS' | xargs -P "${JOBS:-1}" -L 1 python -m trainer --resume --skip-test --max-epochs 200 "${@:2}" --output-dir
distilled --recipe record
distilled-t1 --recipe record --teacher-temperature 1.0
distilled-unmixed --recipe record --ricap 0
distilled-default
RUNS
