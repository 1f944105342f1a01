# shellcheck shell=bash
# The configuration files of containerd, its network plugin, the kubelet and the proxy.
# Sourced, never run.

containerd_config() {
  cat <<END
version = 2
root = "$STATE/containerd"
state = "$RUN/containerd"

[grpc]
  address = "$CONTAINERD_SOCKET"

[plugins."io.containerd.internal.v1.opt"]
  path = "$STATE/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  # Without CAP_SYS_RESOURCE even root may not make a process less likely to be killed.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$ETC/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$RUN/runc"
      SystemdCgroup = false
END
}

network_config() {
  cat <<END
{
  "cniVersion": "0.4.0",
  "name": "bam-cluster",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": false,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "$STATE/addresses",
        "ranges": [[{ "subnet": "$POD_CIDR" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
END
}

# Disk and memory belong to others as well: no pod is evicted, and no image collected,
# because the machine is well used.
kubelet_config() {
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: true }
  x509: { clientCAFile: $PKI/ca.crt }
authorization: { mode: Webhook }
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
clusterDomain: cluster.local
# Tests kill the operator many times: they are not to wait for ever longer pauses.
crashLoopBackOff: { maxContainerRestartPeriod: 1s }
clusterDNS: [$DNS_SERVICE_IP]
podLogsDir: $LOGS/pods
volumePluginDir: $STATE/kubelet/volume-plugins
oomScoreAdj: 0
failSwapOn: false
evictionHard:
  memory.available: 50Mi
  nodefs.available: 1Gi
  imagefs.available: 1Gi
  nodefs.inodesFree: 1%
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
# Who waits for a pod to end should not wait for the kubelet to notice.
syncFrequency: 10s
END
}

# What the operator asks for: a test compares it with its rights.
audit_policy() {
  cat <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- { level: Metadata, users: ["system:serviceaccount:bam-system:bam-operator"] }
- { level: None }
END
}

# Connection tracking has machine-wide limits, which a namespace may not touch.
proxy_config() {
  cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: { kubeconfig: $ETC/proxy.kubeconfig }
mode: iptables
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE
oomScoreAdj: 0
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
END
}

write_configs() {
  mkdir -p "$ETC/cni"
  containerd_config | write_file "$ETC/containerd.toml" 644
  network_config | write_file "$ETC/cni/10-bam.conflist" 644
  kubelet_config | write_file "$ETC/kubelet.yaml" 644
  audit_policy | write_file "$ETC/audit.yaml" 644
  proxy_config | write_file "$ETC/proxy.yaml" 644
  write_kubeconfigs
}
