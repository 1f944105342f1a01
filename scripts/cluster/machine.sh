# shellcheck shell=bash
# What the test cluster takes from the machine, and gives back: a network namespace,
# cgroups, kernel settings, a few folders. Sourced, never run.

# --- network ---------------------------------------------------------------------------

have_network() {
  [[ $(stat -f -c %T "$NETNS" 2>/dev/null) == nsfs ]] && ip link show "$HOST_LINK" >/dev/null 2>&1
}

# The host gets one link with one address, and a way to the pods.
make_network() {
  local route
  ! have_network || return 0
  route=$(ip -o route get "$NODE_IP" 2>/dev/null | grep -o 'dev [^ ]*' || true)
  if [[ -n $(ip -o route show "to" match "$NODE_IP" | grep -v '^default' || true) ]]; then
    die "the address $NODE_IP of the test cluster is taken on this machine (${route:-in use})"
  fi
  : >"$NETNS"
  unshare "--net=$NETNS" true
  ip link add "$HOST_LINK" type veth peer name "$NODE_LINK" netns "$NETNS"
  ip addr add "$HOST_IP/30" dev "$HOST_LINK"
  ip link set "$HOST_LINK" up
  in_node ip link set lo up
  in_node ip addr add "$NODE_IP/30" dev "$NODE_LINK"
  in_node ip link set "$NODE_LINK" up
  in_node ip route add default via "$HOST_IP"
  ip route add "$POD_CIDR" via "$NODE_IP"

  # Pods on one bridge must meet the proxy's rules too.
  modprobe -qa overlay br_netfilter veth 2>/dev/null || true
  [[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]] || die "the kernel has no br_netfilter (modprobe br_netfilter)"
  in_node sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 >/proc/sys/net/ipv4/icmp_ratelimit'
  # A service address that nobody serves (there is no DNS) is refused at once, not after a timeout.
  in_node iptables -A FORWARD -d "$SERVICE_CIDR" -j REJECT
}

remove_network() {
  ip link del "$HOST_LINK" 2>/dev/null || true
  if [[ -e $NETNS ]]; then
    umount -l "$NETNS" 2>/dev/null || true
    rm -f "$NETNS"
  fi
}

# --- cgroups ---------------------------------------------------------------------------

# cgroup_roots: where the cgroup trees are mounted, one a line: all of version 1, or the one of version 2.
cgroup_roots() {
  awk '$3 == "cgroup" { v1[++n] = $2 } $3 == "cgroup2" { v2 = $2 }
    END { if (n) for (i = 1; i <= n; i++) print v1[i]; else if (v2) print v2 }' /proc/self/mounts
}

# Pods get their cgroups below ours, and so do the parts: thus they outlive whoever
# started them, and what is left of them can be found without asking for names.
make_cgroups() {
  local root file
  for root in $(cgroup_roots); do
    mkdir -p "$root/$CGROUP/parts"
    if [[ -e $root/cgroup.controllers ]]; then
      for file in "$root/cgroup.subtree_control" "$root/$CGROUP/cgroup.subtree_control"; do
        sed 's/[^ ]* */+&/g' "$root/cgroup.controllers" >"$file" 2>/dev/null || note "could not hand on all cgroup controllers in $file"
      done
    fi
    # Empty in a new folder, and then no process can enter.
    for file in cpuset.cpus cpuset.mems; do
      if [[ -e $root/$file && ! -e $root/cgroup.controllers ]]; then
        cat "$root/$file" >"$root/$CGROUP/$file"
        cat "$root/$file" >"$root/$CGROUP/parts/$file"
      fi
    done
  done
}

# enter_cgroups: moves the calling shell.
enter_cgroups() {
  local root
  for root in $(cgroup_roots); do
    echo "$BASHPID" >"$root/$CGROUP/parts/cgroup.procs"
  done
}

# cgroup_pids: every process that the cluster ever started and that still lives.
cgroup_pids() {
  local root
  for root in $(cgroup_roots); do
    [[ ! -d $root/$CGROUP ]] || find "$root/$CGROUP" -name cgroup.procs -exec cat {} + 2>/dev/null
  done | sort -un
}

# other_cluster: the state folder of a test cluster that runs here out of another cache. It has
# the same names and addresses, so there is room for one.
other_cluster() {
  local home
  home=$(running_home)
  [[ -n $home && $home != "$STATE" ]] && echo "$home"
}

# running_home: every part has its state folder as HOME, also when the folder is gone.
running_home() {
  local pid
  for pid in $(cgroup_pids); do
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's|^HOME=\(.*/cluster\)$|\1|p'
  done | head -n 1
}

# end_leftovers: the pods and their shims, and parts whose pid file is lost.
end_leftovers() {
  local pids try
  for ((try = 0; try < 50; try++)); do
    mapfile -t pids < <(cgroup_pids)
    ((${#pids[@]} > 0)) || return 0
    kill -KILL "${pids[@]}" 2>/dev/null || true
    sleep 0.1
  done
  die "these processes of the cluster do not end: ${pids[*]}"
}

remove_cgroups() {
  local root try
  # Where version 1 is in use, runc makes folders in the tree of version 2 all the same.
  for root in $(awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts); do
    # A cgroup stays busy for a moment after its last process.
    for ((try = 0; try < 30; try++)); do
      [[ -d $root/$CGROUP ]] || break
      find "$root/$CGROUP" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.1
    done
    [[ ! -d $root/$CGROUP ]] || note "could not remove the cgroup $root/$CGROUP"
  done
}

# --- kernel settings and folders ---------------------------------------------------------

# The kubelet sets these for the whole machine; their values are kept until `down`.
readonly KERNEL_SETTINGS=(vm/overcommit_memory kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

remember_machine() {
  local setting path
  [[ ! -e $STATE/found ]] || return 0
  {
    for setting in "${KERNEL_SETTINGS[@]}"; do
      [[ ! -e /proc/sys/$setting ]] || echo "setting $setting $(cat "/proc/sys/$setting")"
    done
    for path in "${UNAVOIDABLE[@]}"; do
      [[ -e $path ]] || echo "absent $path"
    done
  } | write_file "$STATE/found" 600
}

restore_machine() {
  local kind what value
  [[ -e $STATE/found ]] || return 0
  while read -r kind what value; do
    case $kind in
      setting) echo "$value" >"/proc/sys/$what" ;;
      absent)
        no_mounts_below "$what"
        rm -rf --one-file-system "$what"
        ;;
    esac
  done <"$STATE/found"
}

# mounts_below FOLDER: innermost first.
mounts_below() {
  # Field 5 is the mount point, with blanks and the like as octal escapes.
  awk '{ print $5 }' /proc/self/mountinfo | while read -r point; do
    point=$(printf '%b' "${point//\\/\\0}")
    [[ $point != "$1"/* ]] || printf '%s\n' "$point"
  done | sort -r
}

unmount_below() {
  local point
  mounts_below "$1" | while read -r point; do
    umount "$point" 2>/dev/null || umount -l "$point" 2>/dev/null || true
  done
}

# A folder is only removed when nothing of someone else's can be mounted in it.
no_mounts_below() {
  local left
  left=$(mounts_below "$1")
  [[ -z $left ]] || die "cannot remove $1: still mounted: $left"
}
