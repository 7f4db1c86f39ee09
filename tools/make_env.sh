#!/bin/sh
# Usage: tools/make_env.sh FOLDER
#
# Makes or completes a virtual environment with a Python that Caffe2 has bindings for: 3.9, else
# 3.8, else 3.7. The Python is one on PATH, one under pyenv (in $PYENV_ROOT, else ~/.pyenv), or 3.9
# downloaded with uv. Then installs the pinned requirements and this package in editable mode, which
# builds the native library, too.
#
# TORCH chooses another build of the pinned torch: a version as 1.10.2+cu113, which pip finds in the
# index that PIP_EXTRA_INDEX_URL names, or the file or the address of a wheel.
set -eu
folder=$1
cd "$(dirname "$0")/.."

# usable PROGRAM VERSION: succeeds if the program is a Python of that version that can make
# environments.
usable() {
    "$1" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" \
        >/dev/null 2>&1
}

# Prints the first usable Python.
find_python() {
    for version in 3.9 3.8 3.7; do
        for program in "python$version" python3 python \
            "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
            if usable "$program" "$version"; then
                echo "$program"
                return
            fi
        done
    done
    return 1
}

# Makes the environment with a Python that uv downloads. Installs uv with pip if it is missing.
make_with_uv() {
    uv=uv
    if ! command -v uv >/dev/null 2>&1; then
        python3 -m venv build/uv && build/uv/bin/python -m pip install --quiet uv || return 1
        uv=build/uv/bin/uv
    fi
    "$uv" venv --seed --python 3.9 "$folder"
}

if [ ! -x "$folder/bin/python" ]; then
    if python=$(find_python); then
        echo "environment: $folder, from $("$python" --version)"
        "$python" -m venv "$folder"
    elif ! make_with_uv; then
        echo "error: no Python 3.9, 3.8 or 3.7 on PATH or under pyenv, and uv could not download" \
            "one: install Python 3.9" >&2
        exit 2
    fi
fi

pip="$folder/bin/python -m pip"
if [ -n "${TORCH:-}" ]; then
    case $TORCH in
    *.whl) build=$TORCH ;;
    *) build="torch==$TORCH" ;;
    esac
    echo "installing the torch of TORCH: $build"
    $pip install --quiet "$build"
fi
echo "installing the requirements: about 1 GB to download, several minutes"
$pip install --quiet -r requirements.txt
if [ -n "${TORCH:-}" ]; then
    # The requirements replace a torch of another version than theirs.
    torch=$($pip show torch | sed -n 's/^Version: //p')
    case $TORCH in
    "$torch" | *"torch-$torch-"*) ;;
    *)
        echo "error: TORCH is $TORCH, and requirements.txt needs $torch: choose another build of" \
            "that version" >&2
        exit 2
        ;;
    esac
fi
$pip install --quiet --no-deps -r requirements-no-deps.txt
echo "installing this package and compiling its native operators: several minutes"
# Without build isolation the native library is compiled against the Caffe2 of this environment.
$pip install --no-build-isolation --no-deps -e .
