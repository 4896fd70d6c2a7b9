// Command sandpool-agent is the first process of an interpreter sandbox. It
// drives the kernel and answers the host; see package agent. As "sandpool-agent jupyter" it is the
// bridge to a kernel of Jupyter; see package jupyter. As "sandpool-agent copy FOLDER" it writes
// itself to a folder, from where sandboxes of other images run it.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest"
	"github.com/sandpool/sandpool/internal/agent/jupyter"
	"github.com/sandpool/sandpool/internal/agent/kernels"
)

func main() {
	// The agent does one thing at a time. With more processors the runtime hands each
	// request over between threads, which under gVisor takes a third of its time.
	runtime.GOMAXPROCS(1)
	if len(os.Args) == 5 && os.Args[1] == kernels.JupyterCommand {
		status, err := jupyter.Run(context.Background(), os.Args[2], os.Args[3], os.Args[4])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(status)
	}
	if len(os.Args) == 3 && os.Args[1] == agent.CopyCommand {
		if err := copyProgram(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "sandpool-agent:", err)
			os.Exit(1)
		}
		return
	}
	// Kubernetes tells every container where its API is, which is no matter of cells.
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "KUBERNETES_")
	})
	cfg := guest.Config{Env: env, Logs: true, Secret: os.Getenv(agent.SecretVar)}
	flag.StringVar(&cfg.Addr, "listen", fmt.Sprintf("127.0.0.1:%d", agent.Port), "where to listen")
	language := flag.String("kernel", "python", "language of the cells: "+
		strings.Join(kernels.Names(), ", "))
	flag.StringVar(&cfg.Interpreter, "interpreter", "",
		"path of the language's interpreter; without it PATH is searched")
	flag.StringVar(&cfg.DataDir, "data", agent.DataDir,
		"where cells start, and the root of the files API")
	flag.StringVar(&cfg.Home, "home", agent.Home,
		"home directory of the user that cells run as")
	flag.IntVar(&cfg.User.UID, "uid", agent.UserID, "user that cells run as")
	flag.IntVar(&cfg.User.GID, "gid", agent.GroupID, "group that cells run as")
	flag.StringVar(&cfg.Hosts, "hosts", "",
		"file of host names that the sandbox's own is added to; without it none")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	if cfg.Kernel, err = kernels.Find(*language); err != nil {
		log.Error("agent", "error", err)
		os.Exit(2)
	}
	if err := guest.Run(context.Background(), log, cfg); err != nil {
		log.Error("agent", "error", err)
		os.Exit(1)
	}
}
