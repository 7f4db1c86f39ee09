#!/bin/sh
# Usage: tools/check_gpu.sh [FOLDER]
#
# Checks this project on a machine with a GPU, after `make env`. Builds the native operators with CUDA,
# checks and times every CUDA kernel, runs the operators' tests on the GPU, and trains RetinaNet and
# Faster R-CNN for ten iterations on the GPU and on the CPU. Writes the output of each step into FOLDER
# (default: build/gpu_check) and packs them into FOLDER.tar.gz, the file to send with a report.
#
# A step that fails does not stop the later ones. The status is 1 if one failed.
#
# The kernels' check needs a PyTorch that runs on this GPU: the one of .venv, or that of the Python in
# KERNEL_PYTHON. PYTHON is the environment of this package (default: .venv/bin/python).
set -u
cd "$(dirname "$0")/.."
folder=${1:-build/gpu_check}
python=${PYTHON:-.venv/bin/python}
kernel_python=${KERNEL_PYTHON:-$python}

refuse() {
    echo "error: $1" >&2
    exit 2
}

[ $# -le 1 ] || refuse "one folder at most: tools/check_gpu.sh [FOLDER]"
command -v nvidia-smi >/dev/null || refuse "no nvidia-smi: this check needs a machine with an NVIDIA GPU"
"$python" -c "import detectron_ext" 2>/dev/null || refuse "$python has no detectron_ext: run make env"
"$kernel_python" -c "import torch" 2>/dev/null ||
    refuse "$kernel_python has no torch: set KERNEL_PYTHON to a Python with a PyTorch for this GPU"
mkdir -p "$folder" || refuse "cannot make $folder"
rm -f "$folder"/*.log "$folder/kernels.json" "$folder.tar.gz"

failures=""

# step NAME COMMAND...: runs the command with its output in FOLDER/NAME.log, and says how it ended.
step() {
    name=$1
    shift
    echo "$name: $*"
    if "$@" >"$folder/$name.log" 2>&1; then
        echo "$name: passed"
    else
        echo "$name: FAILED, the end of $folder/$name.log:"
        tail -n 5 "$folder/$name.log"
        failures="$failures $name"
    fi
}

about() {
    git log -1 --format=%H 2>/dev/null || echo "no git checkout"
    nvidia-smi
    "${NVCC:-nvcc}" --version || echo "no nvcc: the CUDA operators are not built"
    for one in "$python" "$kernel_python"; do
        "$one" -c "import sys, torch; print(sys.version, torch.__version__, torch.cuda.get_arch_list())"
    done
}

# Skipped tests ran nothing, so they are a failure here.
on_gpu() {
    "$python" -m pytest -q -s tests/gpu/"$1" | tee "$folder/pytest.txt"
    grep -q " passed" "$folder/pytest.txt" && ! grep -Eq " failed| skipped| error" "$folder/pytest.txt"
}

step about about
step build "$python" tools/build_ops.py
step kernels "$kernel_python" tools/benchmark_kernels.py --size large --json "$folder/kernels.json"
step operators on_gpu test_operators_on_gpu.py
step training on_gpu test_training_on_gpu.py
rm -f "$folder/pytest.txt"

tar -czf "$folder.tar.gz" -C "$(dirname "$folder")" "$(basename "$folder")" ||
    refuse "cannot write $folder.tar.gz"
echo "the log is packed: $folder.tar.gz"
if [ -n "$failures" ]; then
    echo "failed:$failures"
    exit 1
fi
