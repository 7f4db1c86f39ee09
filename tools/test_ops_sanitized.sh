#!/bin/sh
# Usage: tools/test_ops_sanitized.sh [PYTEST_ARGUMENT ...]
#        SANITIZE=thread tools/test_ops_sanitized.sh [PYTEST_ARGUMENT ...]
#
# Builds the native operators with the address sanitizer and the undefined-behaviour sanitizer, or with
# ThreadSanitizer, and runs the tests that are named. Without arguments it runs tests that reach every
# operator and take little time. The status is not 0 if a test fails or if a sanitizer reports anything. At
# the end the library without sanitizers is in its place again.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python
compiler=${CXX:-g++}
variant=${SANITIZE:-address,undefined}
unset SANITIZE # tools/build_ops.py reads it, and the library at the end is to have no sanitizer

runtimes() { for name in "$@"; do printf '%s ' "$("$compiler" -print-file-name="$name")"; done; }

if [ "$variant" = thread ]; then
    # Every operator with inputs that fill several blocks, on three threads, and the loader.
    default="tests/ops/test_same_bits.py tests/ops/test_winograd_conv.py tests/ops/test_depthwise_conv.py
        tests/ops/test_pointwise_conv.py tests/ops/test_conv.py tests/ops/test_roi_align.py
        tests/ops/test_generate_proposals.py tests/data/test_loader.py"
    preload=$(runtimes libtsan.so libstdc++.so)
    # pytest would keep what the sanitizer prints to itself.
    options="-n 0 -s"
    # Python, Caffe2 and OpenMP are not built for it. After a report the process ends with this status.
    export TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66" OMP_NUM_THREADS=3
else
    # Every operator with inputs that fill several blocks, then odd inputs and refusals.
    default="tests/ops/test_same_bits.py tests/ops/test_libra_refusals.py
        tests/ops/test_detectron_refusals.py tests/ops/test_focal_edges.py
        tests/ops/test_generate_proposals.py tests/ops/test_roi_align.py tests/ops/test_depthwise_conv.py"
    preload=$(runtimes libasan.so libubsan.so libstdc++.so)
    options="-n 2 --dist loadfile"
    export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
fi
# The names of the tests and the options hold no space.
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $default

trap '$python tools/build_ops.py' EXIT
$python tools/build_ops.py --sanitize "$variant"
# The sanitizers' runtimes have to be in the process before the library that needs them.
# shellcheck disable=SC2086
LD_PRELOAD=$preload SANITIZE=$variant $python -m pytest -q $options "$@"
