//go:build !control_plane

package main

import (
	"context"

	"k8s.io/component-base/cli"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func init() {
	more["kubelet"] = func() int { return cli.Run(kubelet.NewKubeletCommand(context.Background())) }
}
