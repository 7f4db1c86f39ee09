#!/bin/sh
# Usage: tools/test_caffe2_builds.sh PYTHON:TORCH [PYTHON:TORCH ...]
#
# For each pair, as 3.7:1.6.0, makes an environment under build/caffe2-builds with that Python (on
# PATH or under pyenv) and that torch, builds the native operators for its Caffe2 with the
# environment of `make env`, and runs the operators' tests there. Prints a line for each pair and
# ends with 1 if one failed.
set -u
cd "$(dirname "$0")/.."
folder=build/caffe2-builds
pins="numpy==1.21.6 protobuf==3.20.3 future==1.0.0 six==1.17.0 PyYAML==6.0.1 pycocotools==2.0.7
    opencv-python-headless==4.8.1.78 networkx==2.6.3 pytest==7.4.4 hypothesis==6.79.4
    tqdm==4.67.1 Jinja2==3.1.6 mkl-include==2021.4.0 ninja==1.11.1.4
    setuptools==68.0.0 wheel==0.42.0"

# find_python VERSION: prints a program of that version.
find_python() {
    for program in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$program" -c "import ensurepip, venv" >/dev/null 2>&1; then
            echo "$program"
            return
        fi
    done
    return 1
}

# make_environment PYTHON TORCH FOLDER
make_environment() {
    python=$(find_python "$1") || { echo "no Python $1"; return 1; }
    "$python" -m venv "$3" &&
        "$3/bin/python" -m pip install --quiet --upgrade "pip<25" &&
        "$3/bin/python" -m pip install --quiet --only-binary :all: $pins matplotlib mlxtend \
            --no-deps "torch==$2" || return 1
    "$3/bin/python" -m pip install --quiet typing_extensions attrs iniconfig packaging pluggy \
        sortedcontainers exceptiongroup tomli importlib_metadata zipp MarkupSafe
}

failures=0
for pair in "$@"; do
    environment=$folder/${pair%%:*}-${pair##*:}
    log=$environment.log
    mkdir -p "$folder"
    if { [ -x "$environment/bin/pytest" ] ||
        make_environment "${pair%%:*}" "${pair##*:}" "$environment"; } >"$log" 2>&1 &&
        .venv/bin/python tools/build_ops.py --caffe2 "$environment/bin/python" >>"$log" 2>&1 &&
        PYTHONPATH=$PWD "$environment/bin/python" -m pytest -q -p no:cacheprovider tests/ops \
            >>"$log" 2>&1; then
        echo "Python ${pair%%:*}, torch ${pair##*:}: $(tail -n 1 "$log")"
    else
        echo "Python ${pair%%:*}, torch ${pair##*:}: FAILED, see $log"
        failures=1
    fi
done
exit $failures
