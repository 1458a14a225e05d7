#!/usr/bin/env bash
# bash docs/sweeps/train.sh FOLDER [FLAGS...] < RUNS
#
# RUNS has one run per line, NAME FLAGS..., without quotes. Each is trained into FOLDER/NAME, with the FLAGS above before
# its own, and prints to FOLDER/NAME.log; JOBS=4 trains four at once. The same command again goes on with what is there.
set -euo pipefail

[[ ${1:-} == [!-]* ]] || { echo "usage: $0 FOLDER [FLAGS...] < RUNS" >&2; exit 2; }
export FOLDER=$1 FLAGS=${*:2}
mkdir -p "$FOLDER"

train() { # NAME FLAGS...
    local run=$FOLDER/$1 resume=
    [[ ! -e $run/artifact ]] || return 0
    [[ ! -e $run/run.json ]] || resume=--resume
    # shellcheck disable=SC2086  # FLAGS are words
    python -m trainer --output-dir "$run" $FLAGS "${@:2}" $resume </dev/null >>"$run.log" 2>&1 ||
        { echo "$run failed: $run.log says why" >&2; return 1; }
}
export -f train
xargs -r -L 1 -P "${JOBS:-1}" bash -c 'train "$@"' bash
