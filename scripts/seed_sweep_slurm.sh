#!/usr/bin/env bash
# A seed sweep on a SLURM cluster: one job array for the grid, and one for the ten seeds of its best setting.
# Arguments are those of `backpack-run grid`, or an experiment file. Run it on a login node, in tmux or screen: it waits
# for each array. If it is stopped, start it again as it was: what is done is not done twice.
#
#   SLURM_OPTIONS=partition=main,time=02:00:00 scripts/seed_sweep_slurm.sh configs/fig10.toml
#   scripts/seed_sweep_slurm.sh --problem mnist_logreg --curv kfac --lr 1e-2 --damping 1e-2
#
# SLURM_OPTIONS are options of sbatch, comma-separated; SEEDS and PROGRAM are those of scripts/seed_sweep.sh. The nodes
# must see the program, the data and the folders under the same paths.
set -euo pipefail

options=()
[ -z "${SLURM_OPTIONS:-}" ] || options=(--slurm "$SLURM_OPTIONS")
if [ "$#" -gt 0 ]; then
    set -- "$@" --launcher slurm ${options[@]+"${options[@]}"}
fi
exec "$(dirname "${BASH_SOURCE[0]}")/seed_sweep.sh" "$@"
