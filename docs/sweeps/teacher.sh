#!/usr/bin/env bash
# A teacher for distillation.sh, test included: its artifact is runs/teacher/resnet-110/artifact.
exec bash "$(dirname "$0")/train.sh" "$@" <<'RUNS'
resnet-110  --recipe record --max-epochs 200 --warmup-fraction 0.025 --depth 110
RUNS
