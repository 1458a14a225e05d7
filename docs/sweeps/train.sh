#!/usr/bin/env bash
# bash docs/sweeps/train.sh FOLDER [FLAGS...] < RUNS
#
# RUNS has one run per line, NAME FLAGS..., without quotes. Each is trained into FOLDER/NAME, with the FLAGS above before
# its own, and prints to FOLDER/NAME.log; JOBS=4 trains four at once, which share the cores. The same command again goes
# on with what is there. `timeout` and Ctrl-C reach every run; the script waits until each has written its checkpoint.
set -uo pipefail

[[ ${1:-} == [!-]* ]] || { echo "usage: $0 FOLDER [FLAGS...] < RUNS" >&2; exit 2; }
folder=$1 flags=("${@:2}") jobs=${JOBS:-1} stopped='' pids=() code=0
mkdir -p "$folder" || exit 2
if ((jobs > 1)); then # runs that each had a thread per core would stall each other
    share=$(($(getconf _NPROCESSORS_ONLN) / jobs))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((share > 1 ? share : 1))}
fi

train() { # NAME FLAGS...
    trap : TERM # lest this shell ends before its trainer
    local run=$folder/$1 resume=() code
    [[ ! -e $run/artifact ]] || return 0
    [[ ! -e $run/run.json ]] || resume=(--resume)
    python -m trainer --output-dir "$run" ${flags[@]+"${flags[@]}"} "${@:2}" ${resume[@]+"${resume[@]}"} </dev/null >>"$run.log" 2>&1
    code=$?
    ((code == 0 || code > 128)) || echo "$run failed: $run.log says why" >&2
    return $code
}

trap 'stopped=1' TERM INT
while [[ ! $stopped ]] && read -ra words; do
    [[ ${words[0]:-} ]] || continue
    train "${words[@]}" &
    pids+=($!)
    while [[ ! $stopped ]] && (($(jobs -rp | wc -l) >= jobs)); do sleep 0.2; done
done
for pid in ${pids[@]+"${pids[@]}"}; do
    wait "$pid" || code=$?
    while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done # a signal ends `wait`, not the run
done
exit $code
