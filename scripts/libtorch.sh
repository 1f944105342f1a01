#!/usr/bin/env bash
# Puts libtorch where the build finds it: `.libtorch` in the checkout, a link into the
# per-machine cache. The second run is instant.
#
# There is no CPU-only libtorch for Linux on a package registry, so this takes from the
# PyPI wheels exactly the files that CPU work needs. A GPU image adds
# libtorch_cuda as a layer of its own; the trainer looks for it at start.
#
# Usage: scripts/libtorch.sh            BAM_CACHE=<folder> moves the cache
#        scripts/libtorch.sh --print    only prints the folder, downloads nothing
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# tch 0.24 wants libtorch 2.11.0: change both together.
readonly VERSION=2.11.0
readonly WHEELS=(
  "torch==$VERSION 0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756"
  # libtorch_cpu.so of this (CUDA 13) build is linked against these two, also when no GPU is used.
  "nvidia-cuda-cupti==13.0.85 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"
  "nvidia-cuda-runtime==13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"
)
readonly DOWNLOAD_MB=544 UNPACKED_MB=499

readonly HOME_DIR=$CACHE_DIR/libtorch-$VERSION
readonly LIBTORCH_DIR=$HOME_DIR/torch

check_platform() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) ;;
    Darwin-*) die "macOS is not supported yet: only the Linux x86_64 build of libtorch $VERSION is pinned here (a Linux container works)" ;;
    *) die "$(uname -s) on $(uname -m) is not supported yet: only the Linux x86_64 build of libtorch $VERSION is pinned here" ;;
  esac
}

# The layout of the wheels is kept, because libtorch_cpu.so finds its CUDA companions
# at $ORIGIN/../../nvidia/cu13/lib.
unpack() {
  local wheels=$1 into=$2
  unzip -q "$wheels"/torch-*.whl 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' 'torch/lib/libgomp.so.1' \
    'torch/include/*' 'torch-*.dist-info/licenses/*' -d "$into"
  unzip -q "$wheels"/nvidia_cuda_cupti-*.whl 'nvidia/cu13/lib/libcupti.so.13' '*/licenses/*' -d "$into"
  unzip -q "$wheels"/nvidia_cuda_runtime-*.whl 'nvidia/cu13/lib/libcudart.so.13' '*/licenses/*' -d "$into"
}

# The wheel's libtorch.so drags in libtorch_cuda.so and has nothing that is used;
# torch-sys only wants a library of that name to link with.
make_stub() {
  local lib=$1/torch/lib
  echo 'void bam_empty_libtorch(void) {}' |
    cc -x c -shared -fPIC -Wl,-soname,libtorch.so -o "$lib/libtorch.so" -
}

install() {
  [[ ! -e $LIBTORCH_DIR/build-version ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-libtorch-$VERSION
  have cc || die "a C compiler (cc) is needed; run scripts/setup.sh"
  have unzip || die "unzip is needed; run scripts/setup.sh"
  need_space "$CACHE_DIR" $((DOWNLOAD_MB + UNPACKED_MB + 50)) "libtorch"

  fetch_wheels "$partial/wheels" "$DOWNLOAD_MB" "${WHEELS[@]}"
  note "unpacking"
  rm -rf "$partial/tree"
  mkdir -p "$partial/tree"
  unpack "$partial/wheels" "$partial/tree"
  make_stub "$partial/tree"
  # torch-sys reads the version from this file.
  echo "$VERSION+cpu" >"$partial/tree/torch/build-version"

  # The rename is the commit: either the whole folder is there or none of it.
  rm -rf "$HOME_DIR"
  mv "$partial/tree" "$HOME_DIR"
  rm -rf "$partial"
}

# The link is left alone when it is right: torch-sys rebuilds its C++ when it moves.
link_into_checkout() {
  local link=$REPO_ROOT/.libtorch
  [[ $(readlink "$link" 2>/dev/null) != "$LIBTORCH_DIR" ]] || return 0
  [[ ! -e $link || -L $link ]] || die "$link is in the way: it is not a link that this script made"
  ln -sfn "$LIBTORCH_DIR" "$link"
  note "linked .libtorch -> $LIBTORCH_DIR"
}

main() {
  if [[ ${1:-} == --print ]]; then
    echo "$LIBTORCH_DIR"
    return
  fi
  check_platform
  if [[ -e $LIBTORCH_DIR/build-version ]]; then
    say "libtorch $VERSION: in place"
  else
    say "libtorch $VERSION: fetching it into $HOME_DIR"
    run_as_one "libtorch-$VERSION" install
  fi
  link_into_checkout
}

main "$@"
