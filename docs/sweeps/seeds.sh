#!/usr/bin/env bash
# The recipes with three seeds each, to their full length, test included.
exec bash "$(dirname "$0")/train.sh" "$@" <<'RUNS'
report-seed0    --recipe report
report-seed1    --recipe report --seed 1
report-seed2    --recipe report --seed 2
paper-seed0     --recipe paper
paper-seed1     --recipe paper --seed 1
paper-seed2     --recipe paper --seed 2
default-seed0
default-seed1   --seed 1
default-seed2   --seed 2
RUNS
