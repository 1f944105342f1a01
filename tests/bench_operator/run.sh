#!/usr/bin/env bash
# The operator under load: ten thousand experiments on a real API server and etcd, with a
# fake kubelet, beside a bare client that makes the same writes. docs/performance.md says
# what is measured, and what came of it.
#
# Usage: tests/bench_operator/run.sh [OPTIONS]     --experiments N --active N --round N --no-bare --help
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../scripts/cluster/vars.sh
source "$HERE/../../scripts/cluster/vars.sh"
# shellcheck source-path=SCRIPTDIR source=../../scripts/cluster/tools.sh
source "$HERE/../../scripts/cluster/tools.sh"
cd "$REPO_ROOT"

have etcd || apt_install_quietly etcd-server
have openssl || apt_install_quietly openssl
ensure_kubernetes

say "building the operator and its benchmark"
mkdir -p target/bench-operator
export RUSTC_WORKSPACE_WRAPPER=$REPO_ROOT/scripts/rustc.sh
cargo build --release -p bam-operator --bin bam-operator --bench scale
say "on $(nproc) cores, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo); load before it: $(cut -d ' ' -f 1-3 /proc/loadavg)"

# The image as `make images` writes it.
python3 "$CLUSTER_SOURCES/image.py" write bam-operator target/release/bam-operator >target/bench-operator/image.tar
cargo bench -p bam-operator --bench scale -- --kubernetes "$KUBERNETES_BIN" \
  --operator "$REPO_ROOT/target/release/bam-operator" --image "$REPO_ROOT/target/bench-operator/image.tar" "$@"
