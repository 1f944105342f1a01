#!/usr/bin/env bash
# Prints the path of the pinned Helm, for the tests of the chart; builds it if it is not in the cache.
#
# Usage: scripts/helm.sh
set -euo pipefail
HERE=$(dirname "${BASH_SOURCE[0]}")/cluster
# shellcheck source-path=SCRIPTDIR source=cluster/vars.sh
source "$HERE/vars.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/tools.sh
source "$HERE/tools.sh"

ensure_helm >&2
echo "$HELM"
