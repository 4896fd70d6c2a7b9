package main

import (
	"fmt"
	"net/http"
	"syscall"
)

// reserve asks for memory of a size in every way there is, touches none of it, and says for each
// what came of it.
func reserve(w http.ResponseWriter, r *http.Request) {
	size := uintptr(number(r, "mb")) << 20
	const (
		write   = syscall.PROT_READ | syscall.PROT_WRITE
		private = syscall.MAP_PRIVATE | syscall.MAP_ANON
		shared  = syscall.MAP_SHARED | syscall.MAP_ANON
	)
	for _, way := range []struct {
		name        string
		prot, flags int
	}{
		{"private", write, private}, {"shared", write, shared},
		{"read only", syscall.PROT_READ, private}, {"no access", syscall.PROT_NONE, private},
		{"private, noreserve", write, private | syscall.MAP_NORESERVE},
		{"shared, noreserve", write, shared | syscall.MAP_NORESERVE},
	} {
		_, errno := mapped(size, way.prot, way.flags)
		fmt.Fprintf(w, "%s: %v\n", way.name, said(errno))
	}
	old, errno := mapped(1<<20, write, private)
	if errno == 0 {
		const mayMove = 1
		_, _, errno = syscall.Syscall6(syscall.SYS_MREMAP, old, 1<<20, size, mayMove, 0, 0)
	}
	fmt.Fprintf(w, "grown: %v\n", said(errno))
	end, _, _ := syscall.Syscall(syscall.SYS_BRK, 0, 0, 0)
	now, _, _ := syscall.Syscall(syscall.SYS_BRK, end+size, 0, 0)
	if errno = 0; now != end+size {
		errno = syscall.ENOMEM // the raw call says where the end is, and nothing else
	}
	fmt.Fprintf(w, "heap: %v\n", said(errno))
}

func mapped(size uintptr, prot, flags int) (uintptr, syscall.Errno) {
	addr, _, errno := syscall.Syscall6(syscall.SYS_MMAP, 0, size, uintptr(prot), uintptr(flags),
		^uintptr(0), 0)
	return addr, errno
}

func said(errno syscall.Errno) string {
	if errno == 0 {
		return "granted"
	}
	return errno.Error()
}
