#!/usr/bin/env bash
# One command from a fresh checkout to a ready environment, with data, a demo or the tests: see --help.
set -euo pipefail

ENV_NAME=SALAD
NEXT="python main.py CXR_author CXR_resnet18 log/CXR_test data/author"

# Edit the demo here.
demo() {
    rm -rf log/demo
    mkdir -p log/demo data
    "$PY" main.py CXR_phantom unet log/demo data/phantom --isize 64 --augment flip --batch_size 16 --lr 0.001 \
        --n_epochs 5 --ans_select_rate 0.5 --rec_loss mse --w_rec 10 --w_svdd 0.1 --w_contrast 0.1
    "$PY" test.py CXR_phantom unet log/demo data/phantom --load_model log/demo/model_round2.tar --score reconstruction
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
Where SALAD_ARCHIVE_SHA256 holds a checksum, an archive with another one is not unpacked (the authors publish none).
TEXT
}

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'Error: %s\n' "$*" >&2
    exit 2
}

# --- which Python -----------------------------------------------------------------------------------------

version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

recent() { # recent VERSION: is it 3.10 or later?
    local major=${1%%.*} rest=${1#*.}
    [ "$major" -gt 3 ] || { [ "$major" -eq 3 ] && [ "${rest%%.*}" -ge 10 ]; }
}

find_python() { # sets BASE_PY
    local name version found="" bare=""
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        command -v "$name" >/dev/null || continue
        version=$(version_of "$name") || continue # a shim without a Python behind it
        found="$found, $name is $version"
        recent "$version" || continue
        if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            BASE_PY=$name
            return
        fi
        bare=${bare:-$name}
    done
    if [ -n "$bare" ]; then
        die "$bare has no venv module; on Debian or Ubuntu: sudo apt install python3-venv; then run this again"
    fi
    [ -n "$found" ] || found=", no python3 at all"
    die "Python 3.10 or later is needed (on the PATH: ${found#, }); install one, or conda, and run this again"
}

# --- the environment: sets PREFIX, PY, and how to activate and remove it ------------------------------------

make_venv() {
    PREFIX="$HERE/.venv"
    PY="$PREFIX/bin/python" ACTIVATE="source .venv/bin/activate" REMOVE="rm -r \"$PREFIX\""
    local mark="$PREFIX/unfinished" # there from before the first file until the last
    rmdir "$PREFIX" 2>/dev/null || true
    if [ -e "$mark" ]; then
        say "Removing an unfinished .venv"
        # the mark goes last: a removal cut short is taken up again
        find "$PREFIX" -mindepth 1 -maxdepth 1 ! -name unfinished -exec rm -rf {} +
        rm "$mark"
        rmdir "$PREFIX"
    fi
    if [ ! -e "$PREFIX" ]; then
        find_python
        say "Making .venv with $BASE_PY ($(version_of "$BASE_PY"))"
        mkdir "$PREFIX"
        : >"$mark"
        "$BASE_PY" -m venv "$PREFIX" || die "$BASE_PY -m venv failed: its message is above"
        rm "$mark"
    fi
    "$PY" -c 'import pip' 2>/dev/null ||
        die "$PREFIX has no working Python with pip; remove it ($REMOVE) and run this again"
}

find_conda_env() { # sets PREFIX from a line like "SALAD  *  /path"; empty where there is none
    PREFIX=$("$CONDA" env list | sed -n "s|^ *${ENV_NAME}[ *+]\{1,\}\(/.*\)|\1|p")
    PREFIX=${PREFIX%%$'\n'*}
}

make_conda_env() {
    ACTIVATE="conda activate $ENV_NAME" REMOVE="conda env remove -n $ENV_NAME"
    find_conda_env
    if [ -z "$PREFIX" ] || [ ! -x "$PREFIX/bin/python" ]; then
        say "Making the environment $ENV_NAME with $CONDA"
        SCRATCH=$(mktemp -d)
        trap 'rm -rf "$SCRATCH"' EXIT
        # without its pip section: install_salad does that part, as it does for .venv
        awk '/^  - pip:$/ { skip = 1; next } skip && /^    / { next } { skip = 0; print }' \
            environment.yml >"$SCRATCH/environment.yml"
        local verb=create
        [ -z "$PREFIX" ] || verb=update # one without a python, from a run cut short
        CONDA_ALWAYS_YES=true MAMBA_ALWAYS_YES=true \
            "$CONDA" env "$verb" -n "$ENV_NAME" -f "$SCRATCH/environment.yml" >&2 ||
            die "$CONDA env $verb failed: its message is above"
        find_conda_env
        [ -n "$PREFIX" ] || die "$CONDA made no environment $ENV_NAME: see '$CONDA env list'"
    fi
    PY="$PREFIX/bin/python"
}

# --- the packages -------------------------------------------------------------------------------------------

complete() { # complete EXTRA: is this checkout installed, with each package that it asks for?
    "$PY" -I - "$HERE" "$1" <<'CODE' 2>/dev/null
import importlib.metadata as metadata, importlib.util as util, os, re, sys
here, extras = sys.argv[1], re.split("[, ]+", sys.argv[2])
modules = [util.find_spec(name) for name in ("salad", "torch", "torchvision")]
assert all(modules) and os.path.samefile(os.path.dirname(modules[0].origin), os.path.join(here, "salad"))
for line in metadata.requires("salad"):
    name, _, marker = line.partition(";")  # markers other than a lone extra are pip's business
    extra = re.fullmatch(r"extra *== *['\"]([^'\"]+)['\"]", marker.strip())
    if not marker or (extra and extra[1] in extras):
        metadata.version(re.match(r"[\w.-]+", name)[0])
CODE
}

install_salad() { # install_salad EXTRA
    local version sum stamp="$PREFIX/salad-setup-$1"
    version=$(version_of "$PY") || die "$PY does not start; remove it ($REMOVE) and run this again"
    recent "$version" ||
        die "$PREFIX has Python $version, not 3.10 or later; remove it ($REMOVE) and run this again"
    sum=$({ cat pyproject.toml && printf '%s\n' "$HERE" "$1" "${SALAD_PIP_ARGS:-}"; } | cksum)
    if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && complete "$1"; then
        say "The environment is up to date"
        return
    fi
    rm -f "$stamp"
    say "Installing the packages: the first time this takes minutes and some gigabytes"
    set -f # the words of SALAD_PIP_ARGS, without file name expansion
    # shellcheck disable=SC2086 # pip first: older ones cannot install this project in place
    { "$PY" -m pip install ${SALAD_PIP_ARGS:-} --quiet "pip>=21.3" &&
        "$PY" -m pip install ${SALAD_PIP_ARGS:-} -e ".[$1]"; } >&2 ||
        die "pip could not install the packages: its message is above; without a network, try again later"
    set +f
    complete "$1" || die "pip is done, but $PREFIX lacks packages; remove it ($REMOVE) and run this again"
    printf '%s\n' "$sum" >"$stamp"
}

make_env() { # make_env EXTRA
    export PYTHONNOUSERSITE=1 # pip would take packages of the user's home for installed
    CONDA=$(command -v mamba || command -v conda || true)
    if [ -n "$CONDA" ]; then make_conda_env; else make_venv; fi
    install_salad "$1"
}

# --- the modes ----------------------------------------------------------------------------------------------

fetch_archive() { # fetch_archive [--archive FILE]
    local status=0
    "$PY" -m salad fetch --out data ${SALAD_ARCHIVE_SHA256:+--sha256 "$SALAD_ARCHIVE_SHA256"} "$@" || status=$?
    [ "$status" -lt 128 ] || exit "$status" # interrupted
    [ "$status" -eq 0 ] ||
        die "the environment is ready, the data is not (see above); with the archive at hand, run:" \
            "bash setup.sh --archive FILE"
}

finish() { say "Ready. Next: cd \"$HERE\" && $ACTIVATE && $NEXT"; }

main() {
    local mode=${1:-} file
    [ $# -eq 0 ] || shift
    case "$mode" in
        "" | --demo | --help | -h) [ $# -eq 0 ] || die "unexpected argument: $1 (see bash setup.sh --help)" ;;
        --archive)
            [ $# -eq 1 ] || die "--archive takes one file: bash setup.sh --archive FILE"
            [ -f "$1" ] || die "$1: no such file"
            file=$(CDPATH='' cd -- "$(dirname -- "$1")" && pwd)/$(basename -- "$1")
            ;;
        --env-only)
            [ $# -le 1 ] || die "--env-only takes one extra: bash setup.sh --env-only test"
            case "${1:-}" in *[!A-Za-z0-9_,-]*) die "$1: not an extra of pyproject.toml" ;; esac
            ;;
        --test) ;;
        *) die "unknown mode: $mode (see bash setup.sh --help)" ;;
    esac
    HERE=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
    cd -- "$HERE"
    case "$mode" in
        --help | -h) usage ;;
        --test)
            make_env test
            if [ $# -eq 0 ]; then # the whole suite, in several processes
                set -- --numprocesses auto --maxprocesses 8 --dist loadfile
                export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
            fi
            "$PY" -m pytest "$@"
            ;;
        --env-only)
            make_env "${1:-data,dicom}"
            finish
            ;;
        --demo)
            make_env data,dicom
            demo
            ;;
        --archive)
            make_env data,dicom
            fetch_archive --archive "$file"
            finish
            ;;
        *)
            make_env data,dicom
            fetch_archive
            finish
            ;;
    esac
}

# Sourced, as the tests do, it only defines the functions.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
