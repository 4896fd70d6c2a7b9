package process

import (
	"os"
	"syscall"
)

// Credential is what a process of another user starts with: no other groups. An agent that is not
// root has been started as that user, and cannot change it: then there is none.
func Credential(uid, gid int) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	// ids of our own configuration
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
