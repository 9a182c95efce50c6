#!/usr/bin/env bash
# From a clone to a result: sets libtorch up where it is missing, builds the program, and trains a small grid on real
# images that the program carries with it. Arguments go to `backpack-run grid`, for example --jobs 2 or --dry-run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'quickstart: %s\n' "$*" >&2; }

# Runs a step; where it fails, says so with what to do, and ends with its exit code.
step() {
    local what=$1 remedy=$2 code=0
    shift 2
    say "$what"
    "$@" || code=$?
    if [ "$code" -ne 0 ]; then
        say "error: this step failed with exit code $code: $*"
        say "$remedy"
        exit "$code"
    fi
}

started=$SECONDS
say "looking for libtorch"
settings=$(scripts/setup.sh) || exit $?
eval "$settings"

step "building the program; the first time this compiles the libtorch bindings, about 4 minutes on 2 cores" \
    "The compiler's reason is above. Started again, the build goes on where it stopped." \
    cargo build --release --locked
built=$SECONDS
program=${CARGO_TARGET_DIR:-target}/release/backpack-run

step "training the grid of configs/quickstart.toml; what is done is kept in runs/ and not done twice" \
    "The reason is above. \`$program doctor\` checks this machine and says what to fix." \
    "$program" grid configs/quickstart.toml "$@"

say "done: $((built - started)) s for libtorch and the build, $((SECONDS - built)) s for the grid"
say "the program is $program; see what it can do with: $program --help"
say "to build it yourself, first run: eval \"\$(scripts/setup.sh)\""
