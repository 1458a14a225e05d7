#!/usr/bin/env bash
# One change at a time to the default recipe, validation only: bash ablations.sh FOLDER --max-epochs 5 [FLAGS...]
folder=${1:?name a folder for the runs}
sed "s|^|$folder/|" <<'RUNS' | xargs -P "${JOBS:-1}" -L 1 python -m trainer --resume --skip-test "${@:2}" --output-dir
base
base-seed1 --seed 1
base-seed2 --seed 2
label-smoothing --label-smoothing 0.1
decay-on-weights --weight-decay-on weights
alternating-flip --flip alternating
ema --ema-fraction 0.04
stem-1 --stem-kernel 1
shortcut-b --shortcut B
plain-momentum --no-nesterov
batch-64 --batch-size 64 --learning-rate 0.1
batch-512 --batch-size 512 --learning-rate 0.4
learning-rate-0.1 --learning-rate 0.1
learning-rate-0.4 --learning-rate 0.4
weight-decay-1e-4 --weight-decay 1e-4
weight-decay-1e-3 --weight-decay 1e-3
steps --schedule steps
plateau --schedule plateau
cutout --cutout 8
erasing --erasing 0.25
mixup --mixup 0.2
cutmix --cutmix 1.0
ricap --ricap 0.3
trivial-augment --trivial-augment
teacher --teacher assets/resnet32-cifar10
RUNS
