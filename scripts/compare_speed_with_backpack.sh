#!/usr/bin/env bash
# Measures this program against BackPACK 1.7.1 on PyTorch 2.13.0, round by round in turns, and prints a Markdown table.
#
# usage: scripts/compare_speed_with_backpack.sh [--python PYTHON] [OPTIONS OF THE .py BESIDE THIS]
#
# PYTHON, or BACKPACK_RUN_PYTHON, is a Python that has both packages; otherwise a virtual environment with them is made
# in the cache folder, once (several GB, as PyTorch's wheel brings its CUDA libraries). --help shows the other options.
set -euo pipefail

python=${BACKPACK_RUN_PYTHON:-}
if [ "${1:-}" = --python ]; then
    python=${2:?"--python: expected the path of a Python"}
    shift 2
fi
case $python in
*/*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "$python" ]; then
    environment=${BACKPACK_RUN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/backpack-run}/backpack-1.7.1
    python=$environment/bin/python
    if [ ! -e "$environment/complete" ]; then
        python3 -m venv --clear "$environment"
        "$python" -m pip install --quiet torch==2.13.0 backpack-for-pytorch==1.7.1
        touch "$environment/complete"
    fi
fi

settings=$(scripts/setup.sh)
eval "$settings"
cargo build --release --locked --quiet
program=${CARGO_TARGET_DIR:-target}/release/backpack-run
exec "$python" scripts/compare_speed_with_backpack.py --program "$program" "$@"
