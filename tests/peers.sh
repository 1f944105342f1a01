# shellcheck shell=bash
# Other people's programs, which the trainer is compared with: Python environments outside the checkout. Sourced, never run.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
# shellcheck disable=SC2034 # for those who source this
venv=$CACHE_DIR/parity-venv
# TensorFlow writes the checkpoints. It is no help to the others, and wants versions of its own.
# shellcheck disable=SC2034
tensorflow=$CACHE_DIR/parity-tensorflow-venv
peers_python=${PYTHON:-python3}
export PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1

# prepare FOLDER REQUIREMENTS: an environment is whole when it holds a copy of the requirements that it was made from; that is
# written last.
prepare() {
    local folder=$1 requirements=$2
    if cmp -s "$requirements" "$folder/requirements.txt"; then
        return
    fi
    if ! "$peers_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        die "Python 3.11 or newer is needed; $peers_python is $("$peers_python" --version 2>&1). Name another with PYTHON=..."
    fi
    echo "Making $folder (once; with PyPI's torch this fetches several GB on Linux) ..." >&2
    mkdir -p "$CACHE_DIR"
    "$peers_python" -m venv "$folder"
    "$folder/bin/pip" install --disable-pip-version-check -r "$requirements" >&2
    cp "$requirements" "$folder/requirements.txt"
}
