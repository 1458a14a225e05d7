#!/usr/bin/env bash
# The recipes with three seeds each, test included: bash seeds.sh FOLDER [FLAGS...]
folder=${1:?name a folder for the runs}
sed "s|^|$folder/|" <<'RUNS' | xargs -P "${JOBS:-1}" -L 1 python -m trainer --resume "${@:2}" --output-dir
report-seed0 --recipe report
report-seed1 --recipe report --seed 1
report-seed2 --recipe report --seed 2
paper-seed0 --recipe paper
paper-seed1 --recipe paper --seed 1
paper-seed2 --recipe paper --seed 2
default-seed0
default-seed1 --seed 1
default-seed2 --seed 2
RUNS
