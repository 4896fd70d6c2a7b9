// Package agent is the protocol between the host and the program inside an interpreter sandbox: its
// messages, and the client that the host uses. The server side is package guest beneath it, the
// program cmd/sandpool-agent.
//
// The agent is the first process of its sandbox. It listens on Port of the sandbox's loopback
// interface and speaks HTTP/1.1:
//
//	GET    /ready                200 once the kernel is warm; needs no secret
//	POST   /init                 InitRequest, exactly once; brings the secret
//	POST   /execute              ExecuteRequest → ExecuteResult
//	POST   /link                 upgrade: ExecuteRequests in frames, each answered by an Answer,
//	                             and StartRequests, each answered by one for every Record
//	POST   /executions           StartRequest → Execution; it goes on without a caller
//	GET    /executions           list of Execution
//	GET    /execution?id=        Execution with its result, in a frame
//	GET    /execution/end?id=    Execution, once it has ended
//	GET    /execution/events?id=&after=  Records after a number, in frames, to the last
//	DELETE /execution?id=        cancels → Execution
//	POST   /interrupt            interrupts the running execution of the default context
//	GET    /kernels              list of Kernel
//	GET    /contexts             list of Context
//	PUT    /context?name=&kernel=  makes a context → Context
//	DELETE /context?name=        ends it
//	POST   /context/interrupt?name=, /context/restart?name=
//	GET    /metadata             KernelInfo
//	GET    /processes            list of Process
//	POST   /background           ProcessRequest → BackgroundProcess; it goes on without a caller
//	GET    /background           list of BackgroundProcess
//	GET    /background/one?id=&wait=  BackgroundProcess, once it has ended or wait (ms) is over
//	GET    /background/logs?id=&after=&follow=  ProcessRecords after a number, in frames
//	POST   /background/signal?id=&signal=  to it and its group
//	DELETE /background?id=       ends it with its session, and forgets it
//	POST   /terminal?columns=&rows=&name=  upgrade: a shell, in frames of a kind each
//	GET    /terminals            list of TerminalInfo, of those that have a name
//	DELETE /terminal?name=       hangs one up
//	GET    /files?path=&recursive=   list of FileInfo, of at most MaxEntries
//	GET    /files?…&limit=&after=    the first of them after a path, name by name
//	GET    /watch?path=          FileEvents, in frames
//	PUT    /file?path=&limit=    uploads a file whole or not at all
//	GET    /file?path=           content, with ranges
//	DELETE /file?path=           deletes a file or a directory with all in it
//	GET    /stat?path=           FileInfo
//	POST   /directory?path=      makes a directory and its parents
//	PATCH  /file?path=&offset=&limit=  writes a part of a file → FileInfo
//	POST   /file/move?path=&to=&overwrite=, /file/copy…  → FileInfo
//	GET    /file/digest?path=    FileInfo with its SHA256
//	GET    /archive?path=&format=  a directory as tar or zip
//	PUT    /archive?path=&format=&limit=  makes what an archive holds → Unpacked
//
// If its standard input is a socket, that is a link from the start, which needs no upgrade and no
// secret: whoever started the agent alone has the other end.
//
// An execution is for whoever waits for its answer. When the connection of its request ends, or a
// link says anything before the answer, it does not start, or is interrupted until it yields. One
// that was started has no caller, whoever reads its records.
//
// A frame is a 4 byte big-endian length and JSON. That of a terminal has a byte before, its
// TerminalKind, and instead of JSON: what was typed or written (kind 0, both ways, at most
// MaxTerminalData bytes), columns and rows as two big-endian bytes each (1, to the agent), or a
// byte each of the code and the signal that ended the shell (2, from the agent, the last). A
// terminal without a name lasts as long as its connection: whoever closes it hangs up, and the
// processes of the shell's session get SIGHUP and after two seconds SIGKILL. Output waits for the
// host; input that programs do not take for five seconds is dropped.
//
// # Life
//
// A sandbox is booted, its kernel warmed, and a snapshot taken as soon as /ready answers. Every
// restored clone gets one /init with a secret and a seed of its own before any user code: until
// then everything but /ready and /init is refused, and from then on everything but /ready needs the
// secret as bearer token.
//
// # Trust
//
// Code in the sandbox is hostile and runs as user UserID. It can reach the port, not the secret,
// which exists in the agent's memory alone. It can break its own kernel and lie in its own results;
// the client bounds everything that comes back and takes nothing from it as a fact about anyone
// else.
package agent

import (
	"fmt"
	"path"
	"time"

	"github.com/sandpool/sandpool"
)

// Port is where the agent listens on the sandbox's loopback interface.
const Port = 7077

// Path is where the program is in a sandbox: on a read-only layer of its own,
// so that images need hold nothing of ours.
const Path = "/opt/sandpool/sandpool-agent"

// What the agent expects of the image: the user that cells run as, and the
// directory that is their working directory and the root of the files API.
const (
	UserID  = 1000
	GroupID = 1000
	DataDir = "/mnt/data"
	Home    = "/home/sandbox"
)

// UserAndGroup are those that cells run as, for an agent that is not root.
func UserAndGroup() string { return fmt.Sprintf("%d:%d", UserID, GroupID) }

// Dir is the folder of Path.
func Dir() string { return path.Dir(Path) }

// WarmTime is how long a kernel may take to start and to import everything.
const WarmTime = 2 * time.Minute

// Args is the command line of the agent in a sandbox whose cells are of the named language, one of
// package kernels. It names what must not be touched anywhere else: outside a sandbox the file of
// host names is the machine's.
func Args(language string) []string {
	return []string{Path, "-kernel=" + language, "-hosts=/etc/hosts"}
}

// SecretVar is the variable of the environment with the secret that Init must bring, where the
// agent is told before. No code of the sandbox gets it.
const SecretVar = "SANDPOOL_SECRET"

// CopyCommand has the program write itself to the folder that follows.
const CopyCommand = "copy"

// ArgsInPod is Args where the agent is reached at the sandbox's own address, and something else
// names the host.
func ArgsInPod(language string) []string {
	return []string{Path, "-kernel=" + language, fmt.Sprintf("-listen=:%d", Port)}
}

// Ready asks the agent whether its kernels are warm.
func Ready() sandpool.Probe {
	return sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: Port, Path: "/ready"},
		Timeout: 5 * time.Second}
}

// Capabilities are what the agent needs inside its sandbox: to take another user for what it
// starts, signal it, and manage its files.
func Capabilities() []string {
	return []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID",
		"CAP_SETUID"}
}
