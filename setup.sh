#!/usr/bin/env bash
# One command from a fresh checkout to a ready environment, with data, a demo or the tests: see --help.
set -euo pipefail
unset CDPATH
ENV_NAME=SALAD
CPU_INDEX=https://download.pytorch.org/whl/cpu
SALAD_TORCH=${SALAD_TORCH:-auto}

# Edit the demo here.
demo() {
    rm -rf log/demo
    mkdir -p log/demo data
    "$PY" main.py CXR_phantom unet log/demo data/phantom --recipe strong --n_epochs 2
    "$PY" test.py CXR_phantom unet log/demo data/phantom
    rm -f log/demo/last.tar # 110 MB, which only more training needs
    say "The scores of 200 made-up films, each film with its map, are in $HERE/log/demo/report.html"
    say "Next, with your own films:  cd $(printf %q "$HERE") && $ACTIVATE"
    say "  salad train log/run --normal FOLDER_OF_NORMAL_FILMS --recipe strong"
    say "  salad predict NEW_FILMS --load_model log/run/model.tar"
}

usage() {
    cat <<'TEXT'
Usage: bash setup.sh [MODE]

  (no mode)            make the environment, then download the authors' images to data/author
  --archive FILE       the same, from a local copy of author.tar.xz
  --demo               make the environment, then train and test on made-up images
  --test [ARGS...]     make the environment with the test tools, then run pytest ARGS (default: the whole suite,
                       a process for each core)
  --env-only [EXTRA]   make the environment only, with extras of pyproject.toml (default: data,dicom)
  --help               print this

The environment is `SALAD` where mamba or conda is on the PATH, else the folder .venv beside this script.
A second run reuses it. The words of the variable SALAD_PIP_ARGS are handed to pip, for example
  SALAD_PIP_ARGS="--index-url URL" bash setup.sh
On Linux without an NVIDIA GPU, torch for CPUs is installed where its index can be reached: a gigabyte instead of five.
SALAD_TORCH=cuda installs the one for GPUs there, too (on the login node of a cluster, say), SALAD_TORCH=cpu never does.
Where SALAD_ARCHIVE_SHA256 holds a checksum, an archive with another one is not unpacked (the authors publish none).
TEXT
}

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'Error: %s\n' "$*" >&2 && exit 2; }

find_python() { # sets BASE_PY
    local bare=""
    for BASE_PY in python3 python3.{14..10}; do
        "$BASE_PY" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
        if "$BASE_PY" -c 'import ensurepip, venv' 2>/dev/null; then return; fi
        bare=${bare:-$BASE_PY}
    done
    [ -z "$bare" ] || die "$bare has no venv module; on Debian or Ubuntu: sudo apt install python3-venv; then run again"
    die "Python 3.10 or later is needed (on the PATH: $(python3 --version 2>/dev/null || echo "no python3"));" \
        "install it, or conda, and run this again"
}

make_venv() { # sets PREFIX and how to activate it
    PREFIX=$HERE/.venv ACTIVATE="source .venv/bin/activate"
    local mark=$PREFIX.unfinished # there from before the first file until the last
    [ ! -e "$mark" ] || rm -rf "$PREFIX"
    if [ ! -e "$PREFIX" ]; then
        find_python
        say "Making .venv with $BASE_PY"
        : >"$mark"
        "$BASE_PY" -m venv "$PREFIX" >&2 || die "$BASE_PY -m venv failed: its message is above"
        rm "$mark"
    fi
    "$PREFIX/bin/python" -c 'import pip' 2>/dev/null ||
        die "$PREFIX has no working Python with pip; remove it (rm -r \"$PREFIX\") and run this again"
}

find_conda_env() { # sets PREFIX from a line like "SALAD  *  /path"; fails where there is none with pip
    PREFIX=$("$CONDA" env list | sed -n "s|^ *${ENV_NAME}[ *+]\{1,\}\(/.*\)|\1|p")
    PREFIX=${PREFIX%%$'\n'*}
    [ -n "$PREFIX" ] && "$PREFIX/bin/python" -c 'import pip' 2>/dev/null
}

make_conda_env() { # as environment.yml says
    ACTIVATE="conda activate $ENV_NAME"
    if find_conda_env; then return; fi
    local verb=create
    [ -z "$PREFIX" ] || verb=install # into one that a run cut short has left
    say "Making the environment $ENV_NAME with $CONDA"
    "$CONDA" "$verb" --yes --name "$ENV_NAME" --channel conda-forge python=3.12 pip >&2 ||
        die "$CONDA $verb failed: its message is above"
    find_conda_env || die "$CONDA made no environment $ENV_NAME with pip: see '$CONDA env list'"
}

has_gpu() { [ -e /proc/driver/nvidia ] || [ -e /dev/dxg ] || command -v nvidia-smi >/dev/null; }

choose_torch() { # sets TORCH_ARGS for pip, and NEEDED_GB
    TORCH_ARGS="" NEEDED_GB=6
    [ "$SALAD_TORCH" != cuda ] && [[ $OSTYPE == linux* ]] || return 0
    if [ "$SALAD_TORCH" = auto ]; then
        if has_gpu || [[ ${SALAD_PIP_ARGS:-} == *index* ]]; then return; fi
        "$PY" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$CPU_INDEX/torch/" \
            2>/dev/null || return 0
        say "No NVIDIA GPU here: torch for CPUs is installed (SALAD_TORCH=cuda bash setup.sh: the one for GPUs)"
    fi
    TORCH_ARGS="--extra-index-url $CPU_INDEX" NEEDED_GB=2
}

check_room() { # before anything is installed
    local free
    free=$(df -Pk "$PREFIX" 2>/dev/null | sed -n '2s/.* \([0-9]\{1,\}\)  *[0-9]\{1,3\}% .*/\1/p')
    [ -z "$free" ] || [ "$free" -ge $((NEEDED_GB * 1000000)) ] ||
        die "the packages need $NEEDED_GB GB, but $PREFIX has $((free / 1000000)) GB free: free some, or run this on another disk"
}

make_env() { # make_env EXTRA: sets PY
    cd -- "$HERE"
    export PYTHONNOUSERSITE=1 # pip would take packages of the user's home for installed
    CONDA=$(command -v mamba || command -v conda || true)
    if [ -n "$CONDA" ]; then make_conda_env; else make_venv; fi
    PY=$PREFIX/bin/python
    local sum stamp installed
    sum=$({ cat pyproject.toml && printf '%s\n' "$HERE" "${SALAD_PIP_ARGS:-}" "$SALAD_TORCH"; } | cksum)
    stamp="$PREFIX/salad-setup-${sum// /-}" # lists the extras that are installed
    if grep -qxF -e "$1" "$stamp" 2>/dev/null; then say "The environment is up to date" && return; fi
    installed=$(cat "$stamp" 2>/dev/null || true)
    rm -f "$PREFIX"/salad-setup-* # until pip is done
    choose_torch
    [ -n "$installed" ] || "$PY" -c 'import torch' 2>/dev/null || check_room
    say "Installing the packages: the first time this takes minutes and some gigabytes"
    set -f # the words of SALAD_PIP_ARGS, without file name expansion
    # shellcheck disable=SC2086 # pip first: older ones cannot install this project in place
    { "$PY" -m pip install ${SALAD_PIP_ARGS:-} --quiet "pip>=21.3" &&
        "$PY" -m pip install $TORCH_ARGS ${SALAD_PIP_ARGS:-} -e ".[$1]"; } >&2 ||
        die "pip could not install the packages: its message is above; without a network, try again later"
    set +f
    printf '%s\n' "$installed" "$1" >"$stamp"
}

check_extras() { # check_extras EXTRA,...: does pyproject.toml have them?
    local extra known
    known=$(sed -n '/^\[project.optional-dependencies\]/,/^\[/s/^\([A-Za-z0-9._-]*\) = .*/\1/p' "$HERE/pyproject.toml")
    while IFS= read -r -d , extra; do
        grep -qxF -e "$extra" <<<"$known" ||
            die "--env-only $1: pyproject.toml has no extra '$extra'; it has ${known//$'\n'/, }"
    done <<<"$1,"
}

fetch() { # fetch [--archive FILE]
    local status=0
    "$PY" -m salad fetch --out data ${SALAD_ARCHIVE_SHA256:+--sha256 "$SALAD_ARCHIVE_SHA256"} "$@" || status=$?
    [ "$status" -lt 128 ] || exit "$status" # interrupted
    [ "$status" -eq 0 ] ||
        die "the environment is ready, the data is not (see above); with a copy of it: bash setup.sh --archive FILE"
    finish "python main.py CXR_author CXR_resnet18 log/CXR_test data/author"
}

alone() { [ $# -eq 0 ] || die "unexpected argument: $1 (see bash setup.sh --help)"; }
finish() { say "Ready. Next: cd $(printf %q "$HERE") && $ACTIVATE && $1"; }

mode=${1:-}
[ $# -eq 0 ] || shift
[[ $SALAD_TORCH =~ ^(auto|cpu|cuda)$ ]] || die "SALAD_TORCH is '$SALAD_TORCH', but must be auto, cpu or cuda"
HERE=$(cd -- "$(dirname -- "$0")" && pwd)
case "$mode" in
    "") alone "$@"; make_env data,dicom; fetch ;;
    --demo) alone "$@"; make_env data,dicom; demo ;;
    --help | -h) alone "$@"; usage ;;
    --archive)
        [ $# -eq 1 ] || die "--archive takes one file: bash setup.sh --archive FILE"
        [ -f "$1" ] || die "--archive $1: no such file"
        file=$(cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
        make_env data,dicom
        fetch --archive "$file"
        ;;
    --test)
        make_env test
        if [ $# -eq 0 ]; then # the whole suite, in several processes
            set -- --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
            export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
        fi
        "$PY" -m pytest "$@"
        ;;
    --env-only)
        [ $# -le 1 ] || die "--env-only takes one word, with commas: bash setup.sh --env-only data,test"
        [ $# -eq 1 ] || set -- data,dicom
        check_extras "$1"
        make_env "$1"
        finish "salad --help"
        ;;
    *) die "unknown mode: $mode (see bash setup.sh --help)" ;;
esac
