package sandbox

import (
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Template is everything that the sandboxes of one pool revision have in
// common. It is a plain value: two templates that are equal but for SecretEnv yield the same
// snapshot.
type Template struct {
	// Pool is whose sandboxes these are, for engines that have a place for each pool. It is no part
	// of a key by itself.
	Pool sandpool.PoolID `json:"-"`
	// Root is the root filesystem, shared read-only by all sandboxes. Writes go
	// to a layer of each sandbox's own, bounded by Limits.Disk.
	Root Image
	// Layers are further read-only filesystems, each with a Target.
	Layers []Layer

	// Scratch are folders that can be written to where an engine makes the root read-only.
	Scratch []string `json:",omitempty"`

	// Args is the command line of the first process: a path inside the root, or a name that is
	// looked up in the PATH of Env. Dir is its working directory, "/" if empty.
	Args []string
	Env  []string // KEY=value
	Dir  string
	// SecretEnv is further environment, which may be in no snapshot, log or key. With StartMode
	// Restore it is an error of class Invalid: a snapshot of a process holds its environment.
	SecretEnv []SecretVar
	// OwnEnv is further environment of one sandbox alone. It is no part of what Prepare makes: the
	// caller sets it in Prepared.Template before Start. With StartMode Restore it is an error of
	// class Invalid.
	OwnEnv []SecretVar `json:",omitempty"`
	// User runs the first process: "name", "uid", "name:group" or "uid:gid", where names are
	// those of the root's /etc/passwd and /etc/group; empty means user 0. Groups are
	// supplementary ones, by name or number, besides those of /etc/group. All of them mean nothing
	// on the host. A name that the root does not know is an error of class Invalid.
	User   string
	Groups []string
	// Capabilities (capabilities(7), with CAP_) are what the first process may use, and what
	// programs that it starts may gain: of user 0 they are in effect, of others only gained.
	// They are about things of the sandbox. An engine may refuse those that reach beyond.
	Capabilities []string
	// Setuid lets programs with a set-user-ID bit or file capabilities gain privileges inside.
	Setuid bool
	// HostFiles says which files of /etc the engine writes over those of the root.
	HostFiles HostFiles
	// Authorities are certificates in PEM that programs of the sandbox are to trust besides those
	// of its root: by files of its system, and by the environment of the first process.
	Authorities string `json:",omitempty"`
	// StopSignal ("SIGTERM" if empty, see ParseSignal) is what Stop sends to the first process, and
	// Grace how long it may take to end by itself after that. Without Grace it is killed at once.
	StopSignal string
	Grace      time.Duration
	// Channel makes the standard input of the first process a stream socket to the host,
	// which Dial hands out as the port Channel; otherwise it is empty.
	Channel bool

	// Logs keeps what the first process and its children write to its standard output and error,
	// for a LogReader; otherwise it is lost.
	Logs bool

	// Ready says when a started sandbox may be used. The engine asks until it passes; Period is
	// the longest time between two attempts. ReadyTimeout bounds a boot, warm-up included; zero
	// means what Ready's Delay, Period, Timeout and Failures amount to, and without Failures at
	// least 60 s after its Delay.
	Ready        sandpool.Probe
	ReadyTimeout time.Duration
	// Start says how further sandboxes come to be.
	Start StartMode
	// Limits bound one sandbox. All are required: a zero field is an error of Prepare.
	Limits sandpool.Resources
	// Network says what a sandbox may reach. It is no part of a snapshot: between Prepare and Start
	// the caller may change that of Prepared.Template.
	Network sandpool.Network
}

// SecretVar is a variable of the environment whose value is a secret.
type SecretVar struct {
	Name  string
	Value sandpool.Secret
}

// shortestSecret is the shortest value that scrub looks for: a shorter one is in many texts that
// say nothing of it.
const shortestSecret = 4

// scrub takes the values of t's secrets out of a text that a sandbox wrote.
func (t Template) scrub(text string) string {
	for _, v := range t.SecretEnv {
		if value := v.Value.Reveal(); len(value) >= shortestSecret {
			text = strings.ReplaceAll(text, value, "***")
		}
	}
	return text
}

// Channel is what Dial takes in place of a port for the channel of a sandbox whose
// template has one.
const Channel = 0

// Image names a root filesystem. Each engine gets it in its own way: from a file of the host, or
// by a node that pulls Reference.
type Image struct {
	// Reference is how people and registries name it.
	Reference string
	// Digest identifies the content ("sha256:…"); it is part of a snapshot's key.
	Digest string
	// Known is what the template's author is told of the image the next time, as
	// sandpool.Pool.ImageDigest; empty means Digest. It is part of no key.
	Known string `json:",omitzero"`
	// Username and Password are what the registry of Reference is shown by those who pull by
	// themselves, as the nodes of a cluster do. They are part of no key.
	Username string          `json:",omitzero"`
	Password sandpool.Secret `json:",omitzero"`
}

// Layer is a read-only filesystem: an image file on the host, or, for an engine whose nodes pull
// images, a folder of one of those.
type Layer struct {
	// Digest identifies the content ("sha256:…"); it is part of a snapshot's key.
	Digest string
	// Path is an EROFS image file, uncompressed and without inline data.
	Path string
	// Target is where it is mounted.
	Target string
	// Image is what nodes pull, in place of Path, and Folder what of it is the layer.
	Image  Image  `json:",omitzero"`
	Folder string `json:",omitempty"`
	// Copy is the command line of a program in Image that writes the layer to the folder that it
	// gets as its last argument, for nodes that cannot mount a part of an image.
	Copy []string `json:",omitempty"`
}

// StartMode says how sandboxes of a template are started.
type StartMode = sandpool.StartMode

// The start modes.
const (
	// Restore starts a sandbox from a snapshot that Prepare took of a booted,
	// warmed up and checked sandbox.
	Restore = sandpool.StartBySnapshot
	// Boot starts every sandbox from nothing.
	Boot = sandpool.StartByBoot
)

// DefaultReadyTimeout bounds a boot whose template names no time.
const DefaultReadyTimeout = time.Minute

// BootTimeout is how long a boot of t may take until it is ready.
func (t Template) BootTimeout() time.Duration {
	if t.ReadyTimeout > 0 {
		return t.ReadyTimeout
	}
	p := t.Ready.WithDefaults()
	// An attempt may take longer than the time until the next, which then waits for it.
	probing := time.Duration(p.Failures) * max(p.Period, p.Timeout)
	if t.Ready.Failures == 0 {
		probing = max(probing, DefaultReadyTimeout)
	}
	return p.Delay + probing
}

// DefaultCapabilities are those that containers usually have, as far as they are about the
// sandbox alone: no raw sockets, no device nodes.
func DefaultCapabilities() []string {
	return []string{"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
		"CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"}
}

// HostFiles says which files about the host and its network an engine gives a sandbox.
type HostFiles string

// The host files.
const (
	// NoHostFiles leaves those of the root.
	NoHostFiles HostFiles = ""
	// ResolverFile is /etc/resolv.conf.
	ResolverFile HostFiles = "resolver"
	// AllHostFiles are /etc/hosts and /etc/hostname, too. They have the sandbox's host name, which
	// is then the same in all sandboxes of a snapshot that holds the files.
	AllHostFiles HostFiles = "all"
)
