# shellcheck shell=bash
# The images of the test cluster: its pause program, and operator and trainer as they were
# built last. They go straight into containerd. Sourced, never run.

readonly PAUSE=$CACHE_DIR/bam-pause-1/bam-pause

image_tool() { python3 "$CLUSTER_SOURCES/image.py" "$@"; }

has_image() { [[ -n $(ctr_k8s images list --quiet "name==$1" 2>/dev/null) ]]; }

# put_image REFERENCE TOOL_ARGUMENTS…: into containerd, if it is not there.
put_image() {
  local reference=$1
  shift
  if has_image "$reference"; then
    note "$reference: in place"
  else
    note "$reference: putting it into the cluster"
    image_tool write "$@" | ctr_k8s images import - >/dev/null || die "containerd did not take the image $reference"
    has_image "$reference" || die "containerd took the image, but does not know it as $reference"
  fi
}

build_pause() {
  [[ ! -x $PAUSE ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-pause
  rm -rf "$partial"
  mkdir -p "$partial/bin"
  find_go "$partial"
  (cd "$CLUSTER_SOURCES/pause" && build_go "$partial/log" "$GO" build -trimpath -ldflags '-s -w' -o "$partial/bin/bam-pause" .)
  rm -rf "$(dirname "$PAUSE")"
  mv "$partial/bin" "$(dirname "$PAUSE")"
  rm -rf "$partial"
}

ensure_pause() {
  [[ -x $PAUSE ]] || run_as_one bam-pause-1 build_pause
}

import_pause() { has_image "$PAUSE_IMAGE" || put_image "$PAUSE_IMAGE" bam-pause "$PAUSE" --tag "${PAUSE_IMAGE##*:}"; }

# BAM_PROFILE says of which build, as cargo's folders are called.
readonly BUILD=target/${BAM_PROFILE:-release}

# image_arguments PROGRAM: sets ARGUMENTS, for the image of PROGRAM as it was built last.
image_arguments() {
  ARGUMENTS=("$1" "$REPO_ROOT/$BUILD/$1"
    --tree "$(dirname "$("$REPO_ROOT/scripts/libtorch.sh" --print)")" --digests "$CACHE_DIR/image-digests.json")
}

# forget_image REFERENCE: with the other names that containerd gave the same image.
forget_image() {
  local digest reference
  digest=$(ctr_k8s images list "name==$1" | awk 'NR == 2 { print $3 }')
  [[ -n $digest ]] || return 0
  ctr_k8s images list | awk -v digest="$digest" '$3 == digest { print $1 }' | while read -r reference; do
    ctr_k8s images remove "$reference" >/dev/null 2>&1 || true
  done
}

# keep_newest REFERENCE: forgets images of the same name but the last few, which pods may still
# want to start from.
keep_newest() {
  local name=${1##*/} history old
  history=$STATE/images-${name%:*}
  touch "$history"
  { grep -vxF -- "$1" "$history" || true; echo "$1"; } | write_file "$history" 600
  head -n -5 "$history" | while read -r old; do
    forget_image "$old"
  done
  tail -n 5 "$history" | write_file "$history" 600
}

# need_programs: both were built.
need_programs() {
  local program missing=()
  for program in bam-operator bam-trainer; do
    [[ -x $REPO_ROOT/$BUILD/$program ]] || missing+=("$BUILD/$program")
  done
  ((${#missing[@]} == 0)) || die "not built yet: ${missing[*]}; run: make build"
}

# archives FOLDER: both images as files, for a registry.
archives() {
  local program ARGUMENTS
  need_programs
  mkdir -p "$1"
  for program in bam-operator bam-trainer; do
    image_arguments "$program"
    image_tool write "${ARGUMENTS[@]}" >"$1/.partial.tar" || die "could not write the image of $program"
    mv "$1/.partial.tar" "$1/$program.tar"
    note "$1/$program.tar: $(($(stat -c %s "$1/$program.tar") >> 20)) MB"
  done
  note "OCI archives: skopeo copy oci-archive:$1/bam-operator.tar docker://YOUR/REGISTRY/bam-operator:TAG"
}

# shellcheck disable=SC2034 # install.sh uses what this sets
# images: sets OPERATOR_IMAGE and TRAINER_IMAGE, whose tags are digests of their content.
images() {
  local program reference ARGUMENTS
  say "images of operator and trainer"
  alive containerd || die "the test cluster does not run; run: scripts/cluster.sh up"
  need_programs
  for program in bam-operator bam-trainer; do
    image_arguments "$program"
    reference=$(image_tool ref "${ARGUMENTS[@]}") || die "could not make out what the image of $program holds"
    put_image "$reference" "${ARGUMENTS[@]}"
    keep_newest "$reference"
    case $program in
      bam-operator) OPERATOR_IMAGE=$reference ;;
      bam-trainer) TRAINER_IMAGE=$reference ;;
    esac
  done
}
