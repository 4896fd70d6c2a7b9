// Package gvisor is the engine that runs sandboxes with gVisor inside this very binary: no runsc
// program, no daemon, no container runtime.
//
// # How a sandbox comes to be
//
// A sandbox is one host process (gVisor's kernel, the "sentry", with the stub processes that run
// the guest's code) which the engine starts by executing its own binary again; see HandOver. The
// engine speaks to it over a Unix socket with gVisor's own control protocol. It does not use
// gVisor's container package, for three reasons that were found by reading and measuring: with
// cgroup v1 that package moves the whole calling process into the sandbox's cgroup and back, which
// mixes up starts that run at the same time and can leave the server under a sandbox's memory
// limit; it donates the server's own standard streams to the sandbox; and it runs the sentry either
// as root or through a second execution of the binary, where one execution as nobody is enough.
//
// # What a sandbox takes from the host
//
// Everything carries the sandbox's ID: a cgroup in each controller, which the process is born into,
// and a directory with the control socket. Namespaces are anonymous and mounts are private to the
// process, so they end with it. The cgroup is the truth about what runs: it exists before the
// process and is removed after it, so a kill -9 of the server at any moment leaves nothing that
// List does not see and Stop does not give back.
//
// The root filesystem is an EROFS image that the sentry reads itself, so that no file server
// process stands beside it.
package gvisor
