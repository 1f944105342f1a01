# shellcheck shell=bash
# What the parts of the test cluster agree on: folders, addresses, versions. Sourced,
# never run.
# shellcheck disable=SC2034 # for those who source this

# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

readonly CLUSTER_SOURCES=$REPO_ROOT/scripts/cluster

# Everything the cluster writes, but for $UNAVOIDABLE below. `down` removes it.
readonly STATE=$CACHE_DIR/cluster
readonly RUN=$STATE/run # what a reboot makes worthless: pids, sockets, containerd's tasks
readonly LOGS=$STATE/logs
readonly PKI=$STATE/pki
readonly ETC=$STATE/etc
readonly ADMIN_KUBECONFIG=$STATE/kubeconfig
readonly AUDIT_LOG=$LOGS/audit.log

# Places that a part writes to whatever it is told. `down` removes those that `up` did not find.
readonly UNAVOIDABLE=(
  /run/containerd /run/xtables.lock /var/lib/cni /var/lib/kubelet /var/log/containers
)

# The cluster has a network namespace of its own, so that no rule of its proxy and no
# bridge of its pods is the host's. A veth pair joins the two.
readonly NETNS=$STATE/netns
readonly HOST_LINK=bam-cluster NODE_LINK=bam-node
readonly HOST_IP=10.200.0.1 NODE_IP=10.200.0.2
readonly POD_CIDR=10.244.0.0/24 SERVICE_CIDR=10.96.0.0/16
readonly API_SERVICE_IP=10.96.0.1 DNS_SERVICE_IP=10.96.0.10
readonly API_URL=https://$NODE_IP:6443

readonly NODE=bam-node
readonly CGROUP=bam-cluster
readonly CONTAINERD_SOCKET=$RUN/containerd.sock
readonly PAUSE_IMAGE=localhost/bam-pause:1

# The module beside this file pins it.
KUBERNETES_VERSION=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$CLUSTER_SOURCES/kubernetes/go.mod")
readonly KUBERNETES_VERSION
readonly KUBERNETES_BIN=$CACHE_DIR/kubernetes-$KUBERNETES_VERSION
readonly PARTS_FROM_SOURCE=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

# Not 1.27: its new JSON package corrupts the API server's OpenAPI document.
readonly GO_VERSION=1.26.6
readonly HELM_VERSION=v4.2.4 KUBECTL_VERSION=1.36.4
readonly HELM=$CACHE_DIR/helm-$HELM_VERSION/helm
readonly KUBECTL_FOLDER=$CACHE_DIR/kubectl-$KUBECTL_VERSION

# The machine's kubectl wins, because it is the one its user will type.
PATH=$PATH:/usr/sbin:/sbin:$KUBECTL_FOLDER
# Where everything goes through a proxy, the cluster must not.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}$NODE_IP no_proxy=${no_proxy:+$no_proxy,}$NODE_IP

# kc ARGS…: kubectl on our own cluster.
kc() { kubectl --kubeconfig "$ADMIN_KUBECONFIG" "$@"; }

# in_node COMMAND…: in the network of the node. Not `ip netns exec`, which mounts a new
# /sys and so hides the cgroups.
in_node() { nsenter "--net=$NETNS" "$@"; }

# ctr_k8s ARGS…: containerd's own client, in the kubelet's namespace.
ctr_k8s() { ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }
