#!/usr/bin/env bash
# Run the benchmark `gpu` on a machine without network, from the folder that gpu_pack.sh has made.
#   bash benchmarks/gpu_run.sh DIR [OPTIONS]     OPTIONS of `python -m benchmarks gpu`, such as --stage or --minutes
# Results go to $OUT (default log/gpu): eight files, of which log.txt, run.json and curves.png are the first to read.
# PYTHON names an interpreter with torch (default python3).
set -euo pipefail
cd "$(dirname "$0")/.."
pack=$(realpath "${1:?usage: bash benchmarks/gpu_run.sh DIR [OPTIONS]}")
shift
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install -q --no-index --no-deps --no-compile --disable-pip-version-check --target "$site" \
    "$pack"/wheels/*.whl
export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"$python" -m benchmarks gpu --data "$pack/data" --out "${OUT:-log/gpu}" --minutes 9 "$@"
