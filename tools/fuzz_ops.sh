#!/bin/sh
# Usage: tools/fuzz_ops.sh FOLDER [LIBFUZZER_OPTION ...]
#
# Builds the native operators with the address and undefined-behaviour sanitizers and with coverage, and
# fuzzes their shapes, types, values and arguments (tests/ops/fuzz_operators.py). FOLDER gets the corpus,
# inputs that failed, the input that ran last and counts.json. It needs atheris: see
# tests/fuzz_parsers.py. At the end the library without sanitizers is in its place again.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."
python=.venv/bin/python
compiler=${CXX:-g++}

trap '$python tools/build_ops.py' EXIT
$python tools/build_ops.py --sanitize fuzz
mkdir -p "$folder/corpus"
"$compiler" -x c -O2 -shared -fPIC -o "$folder/coverage.so" tests/ops/fuzz_coverage.c -ldl

runtime() { "$compiler" -print-file-name="$1"; }

LD_PRELOAD="$folder/coverage.so $(runtime libasan.so) $(runtime libubsan.so) $(runtime libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0:allocator_may_return_null=1:max_allocation_size_mb=2048 \
    UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2 \
    $python tests/ops/fuzz_operators.py --coverage "$folder/coverage.so" --last "$folder/last" \
    --counts "$folder/counts.json" "$folder/corpus" -artifact_prefix="$folder/" -max_len=256 \
    -timeout=120 -rss_limit_mb=0 -close_fd_mask=3 -print_final_stats=1 "$@"
