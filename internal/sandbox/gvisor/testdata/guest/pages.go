package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"
)

const pageSize = 4096

// field is memory whose every page is known: that of a sandbox as the snapshot
// has it, until something here changes it.
type field struct {
	bytes []byte
	want  []uint64 // of each page; zero is a page of zeroes
	file  *os.File // of a shared one
}

var fields []*field

// sow makes fields of mb MB each: anonymous memory, shared memory, and a file.
func sow() error {
	mb, _ := strconv.Atoi(os.Getenv("GUEST_FIELDS"))
	if mb == 0 {
		return nil
	}
	for _, path := range []string{"", "/dev/shm/field", "/root/field"} {
		f := &field{want: make([]uint64, mb<<20/pageSize)}
		fd, flags := -1, syscall.MAP_PRIVATE|syscall.MAP_ANON
		if path != "" {
			var err error
			if f.file, err = os.Create(path); err != nil {
				return err
			}
			if err := f.file.Truncate(int64(mb << 20)); err != nil {
				return err
			}
			fd, flags = int(f.file.Fd()), syscall.MAP_SHARED
		}
		var err error
		if f.bytes, err = syscall.Mmap(fd, 0, mb<<20, syscall.PROT_READ|syscall.PROT_WRITE,
			flags); err != nil {
			return fmt.Errorf("map %q: %w", path, err)
		}
		for i := range f.want {
			if i%7 != 3 { // some pages stay untouched
				f.set(i, uint64(i)*2654435761+1)
			}
		}
		fields = append(fields, f)
	}
	return nil
}

func (f *field) page(i int) []byte { return f.bytes[i*pageSize : (i+1)*pageSize] }

func fill(page []byte, v uint64) {
	for j := 0; j < pageSize; j += 8 {
		w := v
		if v != 0 {
			w += uint64(j)
		}
		binary.LittleEndian.PutUint64(page[j:], w)
	}
}

func (f *field) set(i int, v uint64) {
	f.want[i] = v
	fill(f.page(i), v)
}

// check compares a copy of page i with what it should hold.
func (f *field) check(how string, i int, page []byte, v uint64) error {
	want := make([]byte, pageSize)
	fill(want, v)
	if string(page) != string(want) {
		return fmt.Errorf("page %d of %v by %s begins with %x, want %x", i, f.file, how, page[:16],
			want[:16])
	}
	return nil
}

// reap does n random things to each field, in four pieces at the same time, and says whether
// each page held what it should.
func reap(w http.ResponseWriter, r *http.Request) {
	var wait sync.WaitGroup
	results := make(chan error, 4*len(fields))
	for k, f := range fields {
		for piece := range 4 {
			wait.Go(func() {
				random := rand.New(rand.NewPCG(uint64(number(r, "seed")), uint64(4*k+piece)))
				results <- f.reap(random, piece, number(r, "n"))
			})
		}
	}
	wait.Wait()
	close(results)
	for err := range results {
		if err != nil {
			fmt.Fprintln(w, err)
			return
		}
	}
	fmt.Fprint(w, "as sown")
}

func (f *field) reap(random *rand.Rand, piece, n int) error {
	size := len(f.want) / 4
	pipe := make([]int, 2)
	if err := syscall.Pipe(pipe); err != nil {
		return err
	}
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])
	buf := make([]byte, pageSize)
	for range n {
		i := piece*size + random.IntN(size)
		var err error
		switch random.IntN(7) {
		case 0:
			err = f.check("a load", i, f.page(i), f.want[i])
		case 1:
			f.set(i, random.Uint64())
		case 2: // the kernel reads the page
			if err = exchange(pipe, f.page(i), buf); err == nil {
				err = f.check("write(2)", i, buf, f.want[i])
			}
		case 3: // the kernel writes a part of it
			v := random.Uint64()
			fill(buf, v)
			if f.want[i] = v; exchange(pipe, buf[:pageSize/2], f.page(i)[:pageSize/2]) == nil {
				err = exchange(pipe, buf[pageSize/2:], f.page(i)[pageSize/2:])
			}
		case 4: // some pages are given back
			last := min(i+1+random.IntN(40), (piece+1)*size)
			err = f.drop(i, last)
		case 5:
			if f.file != nil {
				if _, err = f.file.ReadAt(buf, int64(i*pageSize)); err == nil {
					err = f.check("pread(2)", i, buf, f.want[i])
				}
			}
		case 6: // a neighbour, so that most of it is read in order
			for j := i; j < min(i+8, (piece+1)*size) && err == nil; j++ {
				err = f.check("a sweep", j, f.page(j), f.want[j])
			}
		}
		if err != nil {
			return err
		}
	}
	for i := piece * size; i < (piece+1)*size; i++ {
		if err := f.check("the last look", i, f.page(i), f.want[i]); err != nil {
			return err
		}
	}
	return nil
}

// drop makes pages zero without a look at them: anonymous ones by MADV_DONTNEED, those of a
// file by a hole.
func (f *field) drop(from, to int) error {
	clear(f.want[from:to])
	part := f.bytes[from*pageSize : to*pageSize]
	if f.file == nil {
		return syscall.Madvise(part, syscall.MADV_DONTNEED)
	}
	const punchHole, keepSize = 2, 1
	err := syscall.Fallocate(int(f.file.Fd()), punchHole|keepSize, int64(from*pageSize),
		int64(len(part)))
	if err != nil { // gVisor has no holes everywhere
		clear(part)
	}
	return nil
}

// exchange sends from through a pipe into to.
func exchange(pipe []int, from, to []byte) error {
	if n, err := syscall.Write(pipe[1], from); n != len(from) {
		return fmt.Errorf("write(2): %d, %w", n, err)
	}
	if n, err := syscall.Read(pipe[0], to); n != len(to) {
		return fmt.Errorf("read(2): %d, %w", n, err)
	}
	return nil
}

// split forks. The parent changes every other page before the child, which
// makes system calls alone, sends what it has: it must be what was there before.
func split(w http.ResponseWriter, _ *http.Request) {
	f := fields[0]
	before := append([]uint64(nil), f.want...)
	gate, way := make([]int, 2), make([]int, 2)
	if syscall.Pipe(gate) != nil || syscall.Pipe(way) != nil {
		fmt.Fprint(w, "no pipes")
		return
	}
	pid := forkWriter(gate[0], way[1], uintptr(unsafe.Pointer(&f.bytes[0])), uintptr(len(f.bytes)))
	for i := 0; i < len(f.want); i += 2 {
		f.set(i, uint64(i)+1)
	}
	_, _ = syscall.Write(gate[1], []byte{1})
	buf := make([]byte, pageSize)
	for i := range before {
		for got := 0; got < pageSize; {
			n, err := syscall.Read(way[0], buf[got:])
			if n <= 0 || err != nil {
				fmt.Fprintf(w, "page %d of the child: %d, %v", i, n, err)
				return
			}
			got += n
		}
		if err := f.check("the child", i, buf, before[i]); err != nil {
			fmt.Fprint(w, err)
			return
		}
	}
	_, _ = syscall.Wait4(pid, nil, 0, nil)
	for i := range f.want {
		if err := f.check("the parent", i, f.page(i), f.want[i]); err != nil {
			fmt.Fprint(w, err)
			return
		}
	}
	fmt.Fprint(w, "as sown")
}

// forkWriter starts a child that waits for a byte from gate, writes n bytes at
// p to way, and ends. It has one thread, so it runs no Go but this.
//
//go:nosplit
//go:norace
func forkWriter(gate, way int, p, n uintptr) (pid int) {
	child, _, _ := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if child != 0 {
		return int(child)
	}
	var b [8]byte
	syscall.RawSyscall(syscall.SYS_READ, uintptr(gate), uintptr(unsafe.Pointer(&b)), 1)
	for n > 0 {
		done, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(way), p, n)
		if errno != 0 {
			break
		}
		p, n = p+done, n-done
	}
	for {
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
