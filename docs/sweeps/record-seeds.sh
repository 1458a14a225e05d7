#!/usr/bin/env bash
# The record itself, test included. Each takes 1,920 epochs.
exec bash "$(dirname "$0")/train.sh" "$@" <<'RUNS'
record-seed0    --recipe record
record-seed1    --recipe record --seed 1
record-seed2    --recipe record --seed 2
RUNS
