#!/usr/bin/env bash
# Finds libtorch 2.13.0, or fetches it into a cache folder, and prints the line that tells cargo where it lies:
#
#     eval "$(scripts/setup.sh)"
#
# In this order: LIBTORCH where it is set; torch 2.13.0 installed in python3; an earlier download; a new download of
# 540 MB through pip. The cache is BACKPACK_RUN_CACHE, else ${XDG_CACHE_HOME:-~/.cache}/backpack-run.
# stdout carries that line alone; messages go to stderr. Exit code 3: something is missing, and the message says what.
set -euo pipefail

version=2.13.0
rust=1.88
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 3
}

# The version of the libtorch in a folder: from its build-version file, from pip's version.py, or from its headers.
version_in() {
    local folder=$1 header
    if [ -f "$folder/build-version" ]; then
        cut -d+ -f1 <"$folder/build-version"
    elif [ -f "$folder/version.py" ]; then
        sed -n "s/^__version__ = '\([^'+]*\).*/\1/p" "$folder/version.py"
    else
        for header in torch/headeronly/version.h torch/csrc/api/include/torch/version.h; do
            if [ -f "$folder/include/$header" ]; then
                sed -nE 's/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ([0-9]+).*/\2/p' "$folder/include/$header" |
                    paste -sd. -
                return
            fi
        done
    fi
}

check_tools() {
    command -v cargo >/dev/null ||
        fail "cargo is not on the PATH. Install Rust $rust or later, for example with rustup, and open a new shell."
    local found
    found=$(cargo --version | sed 's/^cargo \([0-9]*\.[0-9]*\).*/\1/')
    if [ "$(printf '%s\n' "$rust" "$found" | sort -t. -k1,1n -k2,2n | head -n 1)" != "$rust" ]; then
        fail "cargo is version $found, and $rust or later is needed. Update it, for example with \`rustup update stable\`."
    fi
    command -v "${CXX:-c++}" >/dev/null ||
        fail "there is no C++ compiler (${CXX:-c++}). Install one, on Debian with \`apt-get install g++\`."
}

# LIBTORCH as the user set it; a wrong one is an error, for cargo would go by it all the same.
use_libtorch() {
    local folder found
    folder=$(cd "$LIBTORCH" 2>/dev/null && pwd) ||
        fail "LIBTORCH is set to $LIBTORCH, which is no folder. Set it to a libtorch $version, or unset it."
    found=$(version_in "$folder")
    [ -n "$found" ] ||
        fail "LIBTORCH is set to $folder, which has neither build-version nor version.py nor libtorch's headers." \
            "Set it to a libtorch $version, or unset it and this script looks for one."
    [ "$found" = "$version" ] ||
        fail "LIBTORCH is set to $folder, which is libtorch $found; $version is needed, exactly." \
            "Set it to a libtorch $version, or unset it and this script looks for one."
    local library
    for library in "$folder"/lib/libtorch_cpu.*; do
        [ -e "$library" ] ||
            fail "LIBTORCH is set to $folder, which has no lib/libtorch_cpu. Set it to a whole libtorch, or unset it."
    done
    say "using libtorch $version in $folder (LIBTORCH)"
    printf 'export LIBTORCH=%q\n' "$folder"
}

# What an activated environment calls its Python, which is also how torch-sys looks for it.
python() { if [ -n "${VIRTUAL_ENV:-}" ]; then command python "$@"; else python3 "$@"; fi; }

main() {
    check_tools
    if [ -n "${LIBTORCH:-}" ]; then
        use_libtorch
        return
    fi
    python --version >/dev/null 2>&1 ||
        fail "python3 is not on the PATH; it fetches libtorch. Install it, or set LIBTORCH to a libtorch $version."
    local folder
    if folder=$(python "$scripts/libtorch.py" installed); then
        say "using the libraries of torch $version in $folder"
    elif [ -n "${LIBTORCH_USE_PYTORCH:-}" ]; then
        fail "LIBTORCH_USE_PYTORCH is set, but this Python has no torch $version." \
            "Install it (pip install torch==$version), or unset the variable."
    else
        folder=$(python "$scripts/libtorch.py" cached) || exit $?
    fi
    printf 'unset LIBTORCH_USE_PYTORCH\nexport LIBTORCH=%q\n' "$folder"
}

main
