#!/usr/bin/env bash
# Eight runs that are long enough to be still at work when the time is over, validation only.
exec bash "$(dirname "$0")/train.sh" "$@" --no-test <<'RUNS'
long-0  --max-epochs 1000
long-1  --max-epochs 1000 --seed 1
long-2  --max-epochs 1000 --seed 2
long-3  --max-epochs 1000 --seed 3
long-4  --max-epochs 1000 --seed 4
long-5  --max-epochs 1000 --seed 5
long-6  --max-epochs 1000 --seed 6
long-7  --max-epochs 1000 --seed 7
RUNS
