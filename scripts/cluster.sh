#!/usr/bin/env bash
# A complete Kubernetes cluster of one node on this machine, for demos and tests: no
# Docker, no registry, no virtual machine. Or, with KUBECONFIG set to a cluster of your
# own, the installation into that one.
#
# Usage: scripts/cluster.sh COMMAND      (BAM_CACHE=<folder> moves the cache and the cluster)
#   up              start the cluster, or what is missing of it; quick when it runs
#   down            end it and remove everything it left, but for downloads and builds
#   images          build the images of operator and trainer and put them into the cluster
#   archives FOLDER the images as files, for a registry of your own
#   deploy          images and the Helm chart, for tests that bring their own data
#   undeploy        the operator out of it again; experiments, runs and what trains stay
#   kueue           Kueue, for tests of queues; no-kueue removes it, and build-kueue only builds it
#   install         images, storage and the Helm chart (BAM_DIR=folder for your own data)
#   env             print the shell line that points kubectl at the cluster
#   status          what runs
#   start PART      start one part of it: etcd, containerd, apiserver, controller-manager,
#   stop PART         scheduler, kubelet or proxy; or stop it; or both
#   restart PART
set -euo pipefail
HERE=$(dirname "${BASH_SOURCE[0]}")/cluster
# shellcheck source-path=SCRIPTDIR source=cluster/vars.sh
source "$HERE/vars.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/tools.sh
source "$HERE/tools.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/pki.sh
source "$HERE/pki.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/machine.sh
source "$HERE/machine.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/config.sh
source "$HERE/config.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/parts.sh
source "$HERE/parts.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/images.sh
source "$HERE/images.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/install.sh
source "$HERE/install.sh"
# shellcheck source-path=SCRIPTDIR source=cluster/kueue.sh
source "$HERE/kueue.sh"

readonly SELF=$REPO_ROOT/scripts/cluster.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$SELF"; }

# foreign_cluster: whether the user's KUBECONFIG names a cluster that is not ours.
foreign_cluster() {
  [[ -n ${KUBECONFIG:-} && $(realpath -m -- "$KUBECONFIG") != "$(realpath -m -- "$ADMIN_KUBECONFIG")" ]]
}

# need_root COMMAND…: goes on as root. The cache stays the caller's.
need_root() {
  [[ $(id -u) -ne 0 ]] || return 0
  have sudo || die "the test cluster needs root, and there is no sudo"
  exec sudo env BAM_CACHE="$CACHE_DIR" BAM_DIR="${BAM_DIR:-}" BAM_PROFILE="${BAM_PROFILE:-}" PATH="$PATH" "$SELF" "$@"
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

running() {
  local part
  have_network || return 1
  for part in "${PARTS[@]}"; do
    alive "$part" || return 1
  done
}

node_ready() {
  [[ $(kc get node "$NODE" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null) == True ]] &&
    kc get serviceaccount default --namespace default >/dev/null 2>&1
}

wait_for_node() {
  local start=$SECONDS said=$SECONDS
  until node_ready; do
    if ((SECONDS - start >= 120)); then
      kc describe node "$NODE" 2>/dev/null | sed -n '/^Conditions/,/^Addresses/p' >&2 || true
      tail_of kubelet >&2
      die "the node is not Ready after 120 s"
    fi
    if ((SECONDS - said >= 10)); then
      said=$SECONDS
      note "waiting for the node, since $((SECONDS - start)) s"
    fi
    sleep 0.3
  done
}

# end_everything: all that runs or that a reboot would have taken; data stay.
end_everything() {
  local part i other
  for ((i = ${#PARTS[@]} - 1; i >= 0; i--)); do
    part=${PARTS[i]}
    # Pods end while containerd still lives, which then forgets them.
    [[ $part != containerd ]] || end_pods
    stop_part "$part"
  done
  if other=$(other_cluster); then
    note "leaving alone the test cluster in $other"
  else
    end_leftovers
    remove_network
    remove_cgroups
  fi
  unmount_below "$STATE"
  no_mounts_below "$STATE"
  rm -rf --one-file-system "$RUN"
}

# end_pods: kills what runs in pods, and gives containerd a moment to see it.
end_pods() {
  local root pids
  ! other_cluster >/dev/null || return 0
  for root in $(cgroup_roots); do
    mapfile -t pids < <(find "$root/$CGROUP/kubepods" -name cgroup.procs -exec cat {} + 2>/dev/null)
    if ((${#pids[@]} > 0)); then
      kill -KILL "${pids[@]}" 2>/dev/null || true
      sleep 0.5
    fi
  done
}

# bring_up: the cluster from whatever state it is in. Runs in a process of its own, so
# that `up` can look at how it ended.
bring_up() {
  local part begin=$SECONDS
  if [[ -e $STATE/boot && $(cat "$STATE/boot") != "$(boot_id)" ]]; then
    note "the machine was started anew since: bringing the cluster back"
    end_everything
  elif [[ -e $STATE/boot ]] && ! have_network; then
    note "the cluster's network is gone: bringing the cluster back"
    end_everything
  fi
  mkdir -p "$RUN" "$LOGS" "$ETC"
  chmod 700 "$STATE"
  remember_machine
  boot_id >"$STATE/boot"
  make_pki
  write_configs
  make_network
  make_cgroups

  for part in "${PARTS[@]}"; do
    alive "$part" || note "starting $part"
    start_part "$part"
    case $part in
      containerd)
        wait_for_part etcd
        wait_for_part containerd
        import_pause
        ;;
      apiserver) wait_for_part apiserver ;;
    esac
  done
  for part in controller-manager scheduler kubelet proxy; do
    wait_for_part "$part"
  done
  wait_for_node
  # Whoever called this by sudo is the one to use it.
  [[ -z ${SUDO_UID:-} ]] || chown "$SUDO_UID" "$STATE" "$ADMIN_KUBECONFIG"
  note "node Ready, $((SECONDS - begin)) s after the start"
}

up() {
  local existed='' status=0 other
  say "test cluster: Kubernetes $KUBERNETES_VERSION, one node"
  ((${#STATE} <= 70)) || die "the path $STATE is too long for the sockets in it; set BAM_CACHE to a shorter one"
  ! other=$(other_cluster) ||
    die "another test cluster runs on this machine, in $other; end it first: BAM_CACHE=$(dirname "$other") scripts/cluster.sh down"
  ensure_packages
  ensure_kubernetes
  ensure_kubectl
  if running && node_ready; then
    note "it runs: $ADMIN_KUBECONFIG"
    return
  fi
  ensure_pause
  [[ ! -e $STATE/boot ]] || existed=yes
  bash "$SELF" bring-up || status=$?
  ((status == 0)) && return
  [[ -n $existed && $status -lt 128 ]] || die "the cluster did not start (see above; logs: $LOGS)"
  say "what was left of the cluster cannot be brought back; starting it anew"
  down
  bash "$SELF" bring-up || die "the cluster did not start (see above; logs: $LOGS)"
}

down() {
  if [[ ! -e $STATE && $(running_home) != "$STATE" ]]; then
    say "test cluster: there is none"
    return
  fi
  say "test cluster: ending it"
  end_everything
  restore_machine
  rm -rf --one-file-system "$STATE"
  note "gone"
}

print_env() {
  printf 'export KUBECONFIG=%q\n' "$ADMIN_KUBECONFIG"
  # shellcheck disable=SC2016 # PATH is the reader's
  [[ $(command -v kubectl) != "$KUBECTL_FOLDER/kubectl" ]] || printf 'export PATH="$PATH":%q\n' "$KUBECTL_FOLDER"
  [[ -z ${HTTPS_PROXY:-}${https_proxy:-} ]] || printf 'export NO_PROXY=%q no_proxy=%q\n' "$NO_PROXY" "$no_proxy"
}

status() {
  local part pid all=0
  say "test cluster in $STATE"
  for part in "${PARTS[@]}"; do
    if pid=$(pid_of "$part"); then
      note "$(printf '%-19s pid %-8s %5d MB' "$part" "$pid" "$(($(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status") / 1024))")"
    else
      note "$(printf '%-19s not running' "$part")"
      all=1
    fi
  done
  if alive apiserver && probe apiserver; then
    kc get nodes -o wide
    kc get pods --all-namespaces -o wide
  fi
  return "$all"
}

main() {
  local command=${1:-}
  case $command in
    up)
      if foreign_cluster; then
        say "KUBECONFIG names a cluster of your own ($KUBECONFIG): starting none"
        return
      fi
      need_root "$@"
      run_as_one cluster up
      ;;
    down)
      need_root "$@"
      run_as_one cluster down
      ;;
    bring-up) bring_up ;;
    images)
      need_root "$@"
      run_as_one cluster images
      ;;
    archives) archives "${2:?name a folder}" ;;
    deploy)
      need_root "$@"
      run_as_one cluster deploy
      ;;
    kueue)
      need_root "$@"
      run_as_one kueue kueue_up
      ;;
    build-kueue) ensure_kueue ;;
    no-kueue)
      need_root "$@"
      kueue_down
      ;;
    undeploy)
      need_root "$@"
      undeploy
      ;;
    install)
      if foreign_cluster; then
        install_elsewhere
      else
        prepare_data
        need_root "$@"
        run_as_one cluster install
      fi
      ;;
    env) print_env ;;
    status)
      need_root "$@"
      status
      ;;
    start | stop | restart)
      is_part "${2:-}"
      need_root "$@"
      [[ -e $STATE/boot ]] || die "there is no test cluster; run: scripts/cluster.sh up"
      [[ $command == start ]] || stop_part "$2"
      [[ $command == stop ]] || {
        start_part "$2"
        wait_for_part "$2"
      }
      note "$2: $command done"
      ;;
    -h | --help | help) usage ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
}

main "$@" </dev/null
