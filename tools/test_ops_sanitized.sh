#!/bin/sh
# Usage: tools/test_ops_sanitized.sh [PYTEST_ARGUMENT ...]
#
# Builds the native operators with the address sanitizer and the undefined-behaviour sanitizer, and runs
# the tests that are named. Without arguments it runs a part of tests/ops that reaches every operator and
# takes little time. The status is not 0 if a test fails or if a sanitizer reports anything. At the end
# the library without sanitizers is in its place again.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
compiler=${CXX:-g++}
variant=address,undefined

if [ $# -eq 0 ]; then
    # Every operator with inputs that fill several blocks, then odd inputs and refusals.
    set -- tests/ops/test_same_bits.py tests/ops/test_libra_refusals.py \
        tests/ops/test_detectron_refusals.py tests/ops/test_focal_edges.py \
        tests/ops/test_generate_proposals.py tests/ops/test_roi_align.py \
        tests/ops/test_depthwise_conv.py
fi

runtime() { "$compiler" -print-file-name="$1"; }

trap '$python tools/build_ops.py' EXIT
$python tools/build_ops.py --sanitize $variant
# The sanitizers' runtimes have to be in the process before the library that needs them.
LD_PRELOAD="$(runtime libasan.so) $(runtime libubsan.so) $(runtime libstdc++.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 SANITIZE=$variant \
    $python -m pytest -q -n 2 --dist loadfile "$@"
