#!/bin/bash
# build.sh BIN: the programs of a real cluster, from the modules pinned beside this file. It takes
# some 12 minutes of processor time, so no test of `make test` asks for it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$1
mkdir -p "$bin"
# They are built in a copy: in the tree their files would be packages of no module.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here"/*/ "$work"
for file in "$work"/*/main.go.txt; do
	mv "$file" "${file%.txt}"
done
export CGO_ENABLED=0 GOFLAGS=-trimpath GOWORK=off
build() {
	local from=$1 began=$SECONDS
	shift
	(cd "$work/$from" && nice -n 10 go build "$@")
	echo "$from: $((SECONDS - began)) s"
}

# Without its version the API server says v0.0.0, and clients that look at it refuse.
version=v1.36.3
stamp="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	stamp+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=36"
	stamp+=" -X $package.gitTreeState=clean -X $package.gitCommit=none"
done

build etcd -ldflags='-s -w' -o "$bin/etcd" go.etcd.io/etcd/server/v3
build kube -tags providerless -ldflags="$stamp" -o "$bin/kube" .
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
	ln -sf kube "$bin/$name"
done
containerd=github.com/containerd/containerd/v2
build containerd -tags no_btrfs,no_devmapper,no_zfs,no_aufs \
	-ldflags="-s -w -X $containerd/version.Version=v2.4.2" -o "$bin/" \
	$containerd/cmd/containerd $containerd/cmd/containerd-shim-runc-v2 $containerd/cmd/ctr
CGO_ENABLED=1 build runc -tags 'seccomp urfave_cli_no_docs' -ldflags='-s -w -X main.version=1.5.2' \
	-o "$bin/runc" github.com/opencontainers/runc
build kwok -ldflags='-s -w' -o "$bin/kwok" sigs.k8s.io/kwok/cmd/kwok
# What it has nodes and pods do.
kwok=$(cd "$work/kwok" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
for stage in "$kwok"/{node/fast,node/heartbeat-with-lease,pod/fast}/{node,pod}-*.yaml; do
	[ ! -e "$stage" ] || { echo ---; cat "$stage"; } >>"$bin/kwok-stages.yaml"
done
build pause -ldflags='-s -w' -o "$bin/pause" .

# gVisor's shim gives itself the least chance to be ended for want of memory, and ends if it may
# not, as in a container without CAP_SYS_RESOURCE.
(
	cd "$work/gvisor"
	go mod download gvisor.dev/gvisor
	cp -r --no-preserve=mode "$(go list -m -f '{{.Dir}}' gvisor.dev/gvisor)" "$work/gvisor-source"
	go mod edit -replace "gvisor.dev/gvisor=$work/gvisor-source"
)
manager=$work/gvisor-source/pkg/shim/v1/manager.go
grep -q 'oomScoreMax = -999' "$manager"
sed -i 's/oomScoreMax = -999/oomScoreMax = 0/' "$manager"
build gvisor -ldflags='-s -w' -o "$bin/containerd-shim-runsc-v1" gvisor.dev/gvisor/shim
build gvisor -ldflags='-s -w' -o "$bin/runsc" gvisor.dev/gvisor/runsc
