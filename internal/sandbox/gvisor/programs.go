package gvisor

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Two steps of a start are single system calls that need a process of their own, or one
// with a single thread. To run this whole program for them takes 10 to 15 ms, so they are
// programs of a few instructions.

// tinyPrograms says whether there are such programs for this processor. Without them
// a start takes longer and does the same.
const tinyPrograms = runtime.GOARCH == "amd64"

// Descriptors with which the launcher starts a sentry, which closes them.
const (
	programFD  = 3 // this program
	launcherFD = 4
)

// givenFDs bounds the numbers of the descriptors that a sentry is given. The launcher closes
// all from it on: the Go runtime of a sentry opens its own before any of our code
// runs, and those must not come after strays, where gVisor wants numbers for itself.
const givenFDs = 64

// launchCode closes descriptors, empties the bounding set of capabilities and becomes the sentry,
// without CAP_SETPCAP. gVisor would empty the set in each of its threads, by a signal to every
// thread for each capability: 6 ms, and 30 on a machine whose cores are all busy. The sentry checks
// the result; see checkBounding.
const launchCode = "" +
	"\xb8\xb4\x01\x00\x00" + // mov eax, 436: close_range(
	"\xbf\x40\x00\x00\x00" + // mov edi, givenFDs
	"\xbe\xff\xff\xff\xff" + // mov esi, -1
	"\x31\xd2" + // xor edx, edx)
	"\x0f\x05" + // syscall
	"\xbb\x3f\x00\x00\x00" + // mov ebx, 63
	"\xb8\x9d\x00\x00\x00" + // next: mov eax, 157: prctl(
	"\xbf\x18\x00\x00\x00" + // mov edi, 24: PR_CAPBSET_DROP
	"\x89\xde" + // mov esi, ebx
	"\x0f\x05" + // syscall
	"\xff\xcb" + // dec ebx
	"\x79\xee" + // jns next
	"\xb8\x9d\x00\x00\x00" + // mov eax, 157: prctl(
	"\xbf\x2f\x00\x00\x00" + // mov edi, 47: PR_CAP_AMBIENT
	"\xbe\x03\x00\x00\x00" + // mov esi, 3: PR_CAP_AMBIENT_LOWER
	"\xba\x08\x00\x00\x00" + // mov edx, 8: CAP_SETPCAP
	"\x45\x31\xd2" + // xor r10d, r10d
	"\x45\x31\xc0" + // xor r8d, r8d
	"\x0f\x05" + // syscall
	"\xb8\x42\x01\x00\x00" + // mov eax, 322: execveat(
	"\xbf\x03\x00\x00\x00" + // mov edi, programFD
	"\x48\x8d\x35\x22\x00\x00\x00" + // lea rsi, [rip+34]: ""
	"\x48\x8d\x54\x24\x08" + // lea rdx, [rsp+8]: argv
	"\x48\x8b\x0c\x24" + // mov rcx, [rsp]: argc
	"\x4c\x8d\x54\xcc\x10" + // lea r10, [rsp+rcx*8+16]: envp
	"\x41\xb8\x00\x10\x00\x00" + // mov r8d, 0x1000: AT_EMPTY_PATH)
	"\x0f\x05" + // syscall
	"\xb8\xe7\x00\x00\x00" + // mov eax, 231: exit_group(
	"\xbf\x01\x00\x00\x00" + // mov edi, 1)
	"\x0f\x05" + // syscall
	"\x00"

// Just before a sentry confines itself it has a child unmount /proc, as it has
// dropped its own capabilities by then.

// umountCode waits for a byte from descriptor 3, as gVisor's own helper does, and
// unmounts /proc. It exits with 0 if all went well; the sentry goes on only then,
// and only if /proc is gone.
const umountCode = "" +
	"\x31\xc0" + // xor eax, eax: read(
	"\xbf\x03\x00\x00\x00" + // mov edi, 3
	"\x48\x8d\x74\x24\xf8" + // lea rsi, [rsp-8]
	"\xba\x01\x00\x00\x00" + // mov edx, 1)
	"\x0f\x05" + // syscall
	"\xff\xc8" + // dec eax
	"\x75\x15" + // jnz end: it is not the one byte
	"\xb8\xa6\x00\x00\x00" + // mov eax, 166: umount2(
	"\x48\x8d\x3d\x16\x00\x00\x00" + // lea rdi, [rip+22]: "/proc"
	"\xbe\x02\x00\x00\x00" + // mov esi, 2: MNT_DETACH)
	"\x0f\x05" + // syscall
	"\x85\xc0" + // test eax, eax
	"\x0f\x95\xc0" + // end: setnz al
	"\x0f\xb6\xf8" + // movzx edi, al
	"\xb8\xe7\x00\x00\x00" + // mov eax, 231: exit_group(edi)
	"\x0f\x05" + // syscall
	"/proc\x00"

// programFile returns a descriptor of a file in memory that can be executed and
// not be written.
func programFile(name, code string) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every such file is executable
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1, fmt.Errorf("make a file for the program %q: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // what is open for writing cannot be executed
	data, err := program(code)
	if err != nil {
		return -1, err
	}
	if _, err := f.Write(data); err != nil {
		return -1, fmt.Errorf("write the program %q: %w", name, err)
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// program returns the smallest ELF file that holds code (elf(5)).
func program(code string) ([]byte, error) {
	const base = 0x400000
	var header elf.Header64
	var load elf.Prog64
	start := uint64(binary.Size(header) + binary.Size(load))
	size := start + uint64(len(code))
	header = elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB),
			byte(elf.EV_CURRENT)},
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Entry: base + start, Phoff: uint64(binary.Size(header)),
		Ehsize: uint16(binary.Size(header)), Phentsize: uint16(binary.Size(load)), Phnum: 1,
	}
	load = elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
		Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 4096,
	}
	data, err := binary.Append(nil, binary.LittleEndian, header)
	if err != nil {
		return nil, err
	}
	if data, err = binary.Append(data, binary.LittleEndian, load); err != nil {
		return nil, err
	}
	return append(data, code...), nil
}
