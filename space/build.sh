#!/bin/sh
# Makes what the Space serves: a simulated trial, and a network that was not trained on it.
# build.sh DATA MODEL CONFIG [STEPS [TRIALS [SIZE_PX]]]. Where there is a checkpoint in MODEL, it is taken as it is.
set -eu
data=$1 model=$2 config=$3 steps=${4:-350} trials=${5:-120} size_px=${6:-800}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_DATASETS_CACHE="$work/cache"

# Another seed: other poses and cameras of the same implants.
veriserum simulate "$work/shown" --trials 1 --frames-per-trial 12 --seed 7 --marker-frames 0 --size "$size_px"
veriserum convert "$work/shown" "$data"
if [ ! -e "$model/config.json" ]; then
  veriserum simulate "$work/archive" --trials "$trials" --frames-per-trial 6 --marker-frames 0 --size "$size_px"
  veriserum convert "$work/archive" "$work/dataset"
  veriserum train --config "$config" --dataset "$work/dataset" --output-dir "$work/run" \
    --max-train-steps "$steps" --eval-steps "$steps"
  mkdir -p "$model"
  cp "$work/run/config.json" "$work/run/model.safetensors" "$work/run/preprocessor_config.json" "$model"
fi
