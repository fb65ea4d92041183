# shellcheck shell=bash disable=SC2154 # a part of `up`, whose variables and functions it uses
# One real node: containerd and a kubelet, in a process and a mount namespace of their own.

# The node's bridge; pods are beside it. The machine's own addresses, routes and packet filter stay as they are.
bridge=kube0 gateway=10.88.0.1 pods=10.88.0.0/16 node_services=10.96.0.0/16

node_start() {
    # The bridge has one name: another node goes first.
    exec 8>"${TMPDIR:-/tmp}/kube-node.lock"
    flock 8
    cert kubelet-server /CN=node "IP:$gateway,DNS:node"
    kubeconfig kubelet /O=system:nodes/CN=system:node:node

    # One that a killed `up` has left has no pods any more.
    if [ -z "$(ip -o link show master $bridge 2>/dev/null)" ]; then ip link delete $bridge 2>/dev/null || true; fi
    # An address of its own: otherwise it takes the lowest of its ports', and each time that changes, pods talk to nobody
    # until they have learnt it.
    ip link add $bridge address 0a:58:0a:58:00:01 type bridge
    ip address add $gateway/16 dev $bridge
    # In place of kube-proxy and of a packet filter: the one Service address that pods need is the bridge's own.
    ip address add "$api/32" dev $bridge
    ip link set $bridge up
    start forward "$kube" forward "$api:443" "127.0.0.1:$port"

    mkdir -p cni containerd var/{lib,log,tmp}
    node_configuration
    for hierarchy in /sys/fs/cgroup/*/; do mkdir -p "$hierarchy/kube-$slot"; done

    local kernel
    kernel=$(node_kernel)
    start node unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
        "$here/node" "$state" "$kube" "$gateway"
    await containerd 60 "$here/in-node" --state "$state" ctr version
    for archive in ${images:+"$images"/*.tar}; do
        "$here/in-node" --state "$state" ctr -n k8s.io images import "$archive" >/dev/null
        say "image ${archive##*/}"
    done
    await 'node Ready' 60 kubectl wait --for condition=Ready node/node --timeout 1s
    if [ "$kernel" != "$(node_kernel)" ]; then
        echo 'up: the kubelet has changed how this kernel panics; setting it back' >&2
        sysctl -qw kernel.panic_on_oops=0 kernel.panic=0 vm.panic_on_oom=0
    fi
}

node_kernel() { sysctl -n kernel.panic_on_oops kernel.panic vm.panic_on_oom; }

node_configuration() {
    cat >cni/10-kube.conflist <<J
{"cniVersion": "0.4.0", "name": "kube", "plugins": [{
  "type": "bridge", "bridge": "$bridge", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}
}]}
J
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE a process cannot lower its own score.
    cat >containerd.toml <<T
version = 2
root = "$state/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$state/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
T
    # No eviction and no image collection: what is imported cannot be pulled again. No iptables: there is nothing to mark.
    cat >kubelet.yaml <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $gateway
port: $((port + 3))
healthzPort: $((port + 4))
tlsCertFile: $state/pki/kubelet-server.crt
tlsPrivateKeyFile: $state/pki/kubelet-server.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /kube-$slot
failCgroupV1: false
failSwapOn: false
maxOpenFiles: 20000
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
resolvConf: ""
Y
}

# Ends the node's process 1. Its parent, which is the one known by number, ends after everything in the namespace has.
node_end() {
    local outer first hierarchy
    if [ -e run/node.pid ]; then
        outer=$(cat run/node.pid)
        first=$(tr -d ' ' <"/proc/$outer/task/$outer/children") 2>/dev/null || first=''
        [ -z "$first" ] || kill -9 "$first" || true
        wait "$outer" || true
        unset "running[$outer]"
    fi
    ip link delete $bridge || true
    for hierarchy in /sys/fs/cgroup/*; do
        find "$hierarchy/kube-$slot" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}
