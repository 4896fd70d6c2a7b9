// Command sandpool-oci writes the container image of sandpool as an OCI layout, and to a registry;
// make oci runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/oci/pack"
)

func main() {
	bin := flag.String("bin", "bin", "folder with the programs")
	out := flag.String("out", "dist/oci", "folder to write")
	push := flag.String("push", "", "where to push it as well, such as registry.example/sandpool:1")
	authorities := flag.String("authorities", "/etc/ssl/certs/ca-certificates.crt",
		"certificate authorities, in PEM")
	flag.Parse()
	img, err := pack.Image(pack.Files(*bin, *authorities), runtime.GOARCH, sandpool.Version)
	if err == nil {
		err = pack.Layout(img, *out, sandpool.Version)
	}
	if err == nil && *push != "" {
		err = pack.Push(context.Background(), img, *push)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandpool-oci:", err)
		os.Exit(1)
	}
	digest, err := img.Digest()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandpool-oci:", err)
		os.Exit(1)
	}
	fmt.Printf("%s is %s\n", *out, digest)
}
