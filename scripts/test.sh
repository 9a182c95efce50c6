#!/usr/bin/env bash
# All checks: format, lints, unit and integration tests, and the examples in the documentation. Sets libtorch up where
# it is missing. Arguments are parts of test names; only tests that have one of them in their name are run then.
#
# TEST_BUILD_FLAGS are further arguments of cargo for what is built here.
#
# Tests that need something that this machine lacks are skipped; the end lists them with their reasons. REQUIRE_ALL=1
# makes a skip a failure. The last line is `N passed, N failed, N skipped`; exit code 0 means that everything held.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'test: %s\n' "$*" >&2; }

failed_steps=

# Runs a step and remembers whether it failed; the next steps are run all the same.
step() {
    local name=$1 started=$SECONDS
    shift
    say "$name: $*"
    if "$@"; then
        say "$name: ok ($((SECONDS - started)) s)"
    else
        say "$name: FAILED ($((SECONDS - started)) s)"
        failed_steps="$failed_steps, $name"
    fi
}

# A part of the Rust toolchain that minimal installations leave out.
have_component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    say "$1 is not installed (\`rustup component add $2\`); this check is left out"
    if [ -n "${REQUIRE_ALL:-}" ] && [ "$REQUIRE_ALL" != 0 ]; then failed_steps="$failed_steps, $1 is missing"; fi
    return 1
}

settings=$(scripts/setup.sh) || exit $?
eval "$settings"
read -r -a build <<<"--release --locked ${TEST_BUILD_FLAGS:-}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BACKPACK_RUN_SKIPS=$work/skips
: >"$BACKPACK_RUN_SKIPS"
junit=target/nextest/default/junit.xml
rm -f "$junit"

# Keeps the test harness's own result lines, which scripts/tally.py adds up.
logged() { "$@" 2>&1 | tee -a "$work/log"; }

if have_component fmt rustfmt; then step "format" cargo fmt --check; fi
if have_component clippy clippy; then
    step "lints" cargo clippy "${build[@]}" --workspace --all-targets -- -D warnings
    step "lints of the library alone" cargo clippy "${build[@]}" --no-default-features --lib -- -D warnings
fi
if cargo nextest --version >/dev/null 2>&1; then
    # Without a test to run nextest gives 4; the tally decides whether that is right.
    nextest() { cargo nextest run "${build[@]}" --no-fail-fast "$@" || [ $? -eq 4 ]; }
    # First, so that the results that are counted are those of the whole.
    step "tests of the library alone" nextest --no-default-features --lib "$@"
    step "tests" nextest "$@"
else
    # Not logged: the results that are counted are those of the whole.
    step "tests of the library alone" cargo test "${build[@]}" --no-fail-fast --no-default-features --lib -- "$@"
    step "tests" logged cargo test "${build[@]}" --no-fail-fast --lib --bins --tests --examples -- "$@"
fi
step "documentation examples" logged cargo test "${build[@]}" --doc -- "$@"

python3 scripts/tally.py --junit "$junit" --log "$work/log" --skips "$BACKPACK_RUN_SKIPS" \
    --failed-steps "${failed_steps#, }"
