#!/usr/bin/env bash
# A seed sweep on this machine: trains the grid, then its best setting with ten seeds, and writes the curves over seeds.
# Arguments are those of `backpack-run grid`, or an experiment file; what is done is not done twice.
#
#   scripts/seed_sweep.sh --problem mnist_logreg --curv kfac --jobs 2
#   SEEDS=42..46 scripts/seed_sweep.sh --problem mnist_logreg --curv kfac --lr 1e-2 --damping 1e-2
#   scripts/seed_sweep.sh configs/fig10_quick.toml
#
# SEEDS are the seeds of the best setting (those of the file, else 42..51), PROGRAM is the program to start. With one
# learning rate and one damping there is no grid to train.
set -euo pipefail

say() { printf 'seed_sweep: %s\n' "$*" >&2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${PROGRAM:-}
if [ -z "$program" ]; then
    program=${CARGO_TARGET_DIR:-$root/target}/release/backpack-run
    [ -x "$program" ] || program=$(command -v backpack-run) || {
        say "backpack-run is not built: run scripts/quickstart.sh or cargo build --release, or set PROGRAM"
        exit 3
    }
fi
if [ "$#" -eq 0 ]; then
    say "what is to be swept? Give an experiment file, or flags of backpack-run grid (see the first lines of this script)"
    exit 2
fi
seeds=()
[ -z "${SEEDS:-}" ] || seeds=(--seeds "$SEEDS")

say "grid and seeds: $*"
exec "$program" study "$@" ${seeds[@]+"${seeds[@]}"}
