#!/usr/bin/env bash
# Prints a folder that holds JobSet's controller (`jobset`) and its CRD (`crd.yaml`), the peer of the operator's benchmark;
# builds it from its Go module, once per machine, if it is not in the cache.
#
# Usage: scripts/jobset.sh
set -euo pipefail
HERE=$(dirname "${BASH_SOURCE[0]}")/cluster
# shellcheck source-path=SCRIPTDIR source=cluster/vars.sh
source "$HERE/vars.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/tools.sh
source "$HERE/tools.sh"

readonly MODULE=sigs.k8s.io/jobset
# The module beside the cluster's scripts pins it.
VERSION=$(awk -v module="$MODULE" '$1 == module { print $2; exit }' "$CLUSTER_SOURCES/jobset/go.mod")
readonly VERSION
readonly PLACE=$CACHE_DIR/jobset-$VERSION

build_jobset() {
  [[ ! -x $PLACE/jobset ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-jobset-$VERSION
  need_space "$CACHE_DIR" 2500 "building JobSet"
  rm -rf "$partial"
  mkdir -p "$partial/bin"
  find_go "$partial"
  (
    cd "$CLUSTER_SOURCES/jobset" || exit
    build_go "$partial/log" "$GO" build -v -mod=readonly -trimpath -ldflags '-s -w' -o "$partial/bin/" "$MODULE"
    cp --no-preserve=mode "$("$GO" list -m -f '{{.Dir}}' "$MODULE")/config/components/crd/bases/jobset.x-k8s.io_jobsets.yaml" \
      "$partial/bin/crd.yaml"
  )
  rm -rf "$PLACE"
  mv "$partial/bin" "$PLACE"
  rm -rf "$partial"
}

if [[ -x $PLACE/jobset ]]; then
  note "JobSet $VERSION: in place" >&2
else
  note "JobSet $VERSION: building it, once per machine (1 to 8 minutes)" >&2
  run_as_one "jobset-$VERSION" build_jobset >&2
fi
echo "$PLACE"
