# shellcheck shell=bash
# The seven processes of the test cluster: how each is started, asked whether it is well,
# and ended. A part is known by its pid file, never by its name. Sourced, never run.

# In the order of their start.
readonly PARTS=(etcd containerd apiserver controller-manager scheduler kubelet proxy)

# part_command PART: sets COMMAND.
part_command() {
  local bin=$KUBERNETES_BIN
  case $1 in
    etcd)
      # Nobody but the API server is in reach of this loopback: it is the node's, not the host's.
      COMMAND=(etcd --name "$NODE" --data-dir "$STATE/etcd" --logger zap --log-level warn
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380
        --initial-cluster "$NODE=http://127.0.0.1:2380" --auto-compaction-mode periodic --auto-compaction-retention 1h)
      ;;
    containerd) COMMAND=(containerd --config "$ETC/containerd.toml") ;;
    apiserver)
      COMMAND=("$bin/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --advertise-address "$NODE_IP"
        --secure-port 6443 --service-cluster-ip-range "$SERVICE_CIDR" --allow-privileged=true
        "--authorization-mode=Node,RBAC" --enable-admission-plugins NodeRestriction
        --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key"
        --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP
        --kubelet-client-certificate "$PKI/apiserver-kubelet-client.crt" --kubelet-client-key "$PKI/apiserver-kubelet-client.key"
        --service-account-issuer https://kubernetes.default.svc.cluster.local
        --service-account-key-file "$PKI/service-account.pub" --service-account-signing-key-file "$PKI/service-account.key"
        --audit-policy-file "$ETC/audit.yaml" --audit-log-path "$AUDIT_LOG" --shutdown-delay-duration 0s)
      ;;
    controller-manager)
      COMMAND=("$bin/kube-controller-manager" --kubeconfig "$ETC/controller-manager.kubeconfig"
        --authentication-kubeconfig "$ETC/controller-manager.kubeconfig" --authorization-kubeconfig "$ETC/controller-manager.kubeconfig"
        --authentication-skip-lookup --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials
        --flex-volume-plugin-dir "$STATE/kubelet/volume-plugins"
        --service-account-private-key-file "$PKI/service-account.key" --root-ca-file "$PKI/ca.crt"
        --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" --client-ca-file "$PKI/ca.crt")
      ;;
    scheduler)
      COMMAND=("$bin/kube-scheduler" --kubeconfig "$ETC/scheduler.kubeconfig"
        --authentication-kubeconfig "$ETC/scheduler.kubeconfig" --authorization-kubeconfig "$ETC/scheduler.kubeconfig"
        --authentication-skip-lookup --bind-address 127.0.0.1 --leader-elect=false --client-ca-file "$PKI/ca.crt")
      ;;
    kubelet)
      COMMAND=("$bin/kubelet" --config "$ETC/kubelet.yaml" --kubeconfig "$ETC/kubelet.kubeconfig"
        --root-dir "$STATE/kubelet" --hostname-override "$NODE" --node-ip "$NODE_IP")
      ;;
    proxy) COMMAND=("$bin/kube-proxy" --config "$ETC/proxy.yaml") ;;
    *) die "there is no part '$1'; the parts are: ${PARTS[*]}" ;;
  esac
}

# probe PART: whether it does its work.
probe() {
  local get=(curl -ksf --max-time 2 --noproxy '*' -o /dev/null)
  case $1 in
    etcd) in_node "${get[@]}" http://127.0.0.1:2379/health ;;
    containerd) ctr_k8s version >/dev/null 2>&1 ;;
    apiserver) kc get --raw /readyz --request-timeout 5s >/dev/null 2>&1 ;;
    controller-manager) in_node "${get[@]}" https://127.0.0.1:10257/healthz ;;
    scheduler) in_node "${get[@]}" https://127.0.0.1:10259/healthz ;;
    kubelet) in_node "${get[@]}" http://127.0.0.1:10248/healthz ;;
    proxy) in_node "${get[@]}" http://127.0.0.1:10256/livez ;;
  esac
}

# identity PID: what no other process of this machine ever has: its start, in this boot.
identity() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) } # the name before it may hold anything
  read -r -a stat <<<"$stat"
  [[ ${stat[0]} != Z ]] || return 1
  echo "$1 ${stat[19]} $(cat /proc/sys/kernel/random/boot_id)"
}

# pid_of PART: its process, if that lives.
pid_of() {
  local written pid
  written=$(cat "$RUN/pids/$1" 2>/dev/null) && [[ -n $written ]] || return 1
  pid=${written%% *}
  [[ $(identity "$pid") == "$written" ]] || return 1
  echo "$pid"
}

alive() { pid_of "$1" >/dev/null; }

# tail_of PART: the end of its log, for error messages.
tail_of() {
  printf '    the end of %s:\n' "$LOGS/$1.log"
  tail -n 12 "$LOGS/$1.log" 2>/dev/null | cut -c1-400 | sed 's/^/      /'
}

# start_part PART: nothing of the caller is handed on: no environment (a proxy), no open
# file (a lock, make's job server), no cgroup, no session.
start_part() {
  local part=$1 pid COMMAND
  part_command "$part"
  ! alive "$part" || return 0
  mkdir -p "$LOGS" "$RUN/pids"
  (
    enter_cgroups
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      ((fd <= 2 || fd == 255)) || eval "exec $fd>&-"
    done
    cd /
    exec env -i PATH="$PATH" HOME="$STATE" ETCD_UNSUPPORTED_ARCH="$(uname -m)" \
      setsid nsenter "--net=$NETNS" "${COMMAND[@]}"
  ) </dev/null >>"$LOGS/$part.log" 2>&1 &
  pid=$!
  identity "$pid" >"$RUN/pids/$part" || true
}

# wait_for_part PART: until it answers; gives up early when it ended.
wait_for_part() {
  local part=$1 start=$SECONDS said=$SECONDS
  until probe "$part"; do
    if ! alive "$part"; then
      tail_of "$part" >&2
      die "$part ended right after its start"
    fi
    if ((SECONDS - start >= 120)); then
      tail_of "$part" >&2
      die "$part does not answer, after 120 s"
    fi
    if ((SECONDS - said >= 10)); then
      said=$SECONDS
      note "waiting for $part, since $((SECONDS - start)) s"
    fi
    sleep 0.2
  done
}

# stop_part PART: asks it to end, and after some seconds makes it. Only two keep something:
# the API server alone would wait a minute for those who watch it.
stop_part() {
  local part=$1 pid try patience=20
  case $part in etcd | containerd) patience=100 ;; esac
  if pid=$(pid_of "$part"); then
    kill -TERM "$pid" 2>/dev/null || true
    for ((try = 0; try < patience; try++)); do
      alive "$part" || break
      sleep 0.1
    done
    if alive "$part"; then
      kill -KILL "$pid" 2>/dev/null || true
      while alive "$part"; do sleep 0.1; done
    fi
  fi
  rm -f "$RUN/pids/$part"
}

# is_part PART…: or an end with the list.
is_part() {
  [[ " ${PARTS[*]} " == *" ${1:-} "* ]] || die "there is no part '${1:-}'; the parts are: ${PARTS[*]}"
}
