package layer

import (
	"fmt"

	"github.com/sandpool/sandpool"
)

// The codes of this package's errors.
const (
	CodeInvalid  = "InvalidImageLayer" // class Invalid
	CodeTooLarge = "ImageTooLarge"     // class TooLarge
)

// Limits bound all layers of one image together.
type Limits struct {
	Bytes   int64 // unpacked, on disk
	Entries int   // names, those that later layers replace or remove included
	Ratio   int64 // how many bytes of content a byte of the download may become
}

// DefaultLimits are twenty times what a large image has: 16 GiB, half a million names.
func DefaultLimits() Limits {
	return Limits{Bytes: 16 << 30, Entries: 500_000, Ratio: 200}
}

const (
	maxPath   = 4096 // PATH_MAX of Linux
	maxName   = 255  // NAME_MAX
	maxTarget = 4032 // of a symbolic link: what package erofs can keep
	maxLinks  = 40   // symbolic links in one path: MAXSYMLINKS of Linux

	// Limits.Bytes divided by ratioFrom is how much content an image may have whatever its ratio.
	ratioFrom = 64
	// namesPerEntry times Limits.Entries is how many bytes of paths, targets and
	// attributes the tree may hold.
	namesPerEntry = 256
	// headerBytes times Limits.Entries is how much of the layers may be something else than
	// content.
	headerBytes = 4096
	// stepsPerEntry times Limits.Entries is how many steps resolving and removing may take.
	stepsPerEntry = 64
)

// spent is what the layers so far have taken of the limits.
type spent struct {
	limits  Limits
	bytes   int64 // content, with the holes of sparse files
	in      int64 // bytes of the download
	stream  int64 // bytes that came out of the decompressor
	entries int
	names   int64
	steps   int64
}

func (s *spent) addBytes(n int64) error {
	s.bytes += n
	if s.bytes > s.limits.Bytes || s.bytes < 0 {
		return tooLarge("The image unpacks to more than %d MiB.", s.limits.Bytes>>20)
	}
	return nil
}

// addStream counts what the decompressor yields: content, headers and whatever follows them.
func (s *spent) addStream(n int) error {
	s.stream += int64(n)
	if s.stream > s.limits.Bytes+int64(s.limits.Entries)*headerBytes {
		return tooLarge("The image's layers unpack to more than %d MiB.", s.limits.Bytes>>20)
	}
	return s.checkRatio(s.stream)
}

// checkRatio is called as content comes, when in is known to be at least what it was made of.
func (s *spent) checkRatio(content int64) error {
	if content > s.limits.Bytes/ratioFrom && content/s.limits.Ratio > s.in {
		return tooLarge("The image unpacks to more than %d times its download.", s.limits.Ratio)
	}
	return nil
}

// addEntry counts a name at a path of the given length, with further bytes that stay in memory.
func (s *spent) addEntry(path, more int) error {
	s.entries++
	if s.entries > s.limits.Entries {
		return tooLarge("The image has more than %d files and folders.", s.limits.Entries)
	}
	s.names += int64(path + more)
	if s.names > int64(s.limits.Entries)*namesPerEntry {
		return tooLarge("The names, links and attributes in the image take more than %d MiB.",
			int64(s.limits.Entries)*namesPerEntry>>20)
	}
	return nil
}

func (s *spent) step() error {
	s.steps++
	if s.steps > int64(s.limits.Entries)*stepsPerEntry {
		return invalid("The paths of the image take more than %d steps to follow.",
			int64(s.limits.Entries)*stepsPerEntry)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, CodeInvalid, "image", format, args...)
}

func tooLarge(format string, args ...any) error {
	return sandpool.Errorf(sandpool.TooLarge, CodeTooLarge, "image",
		format+" Whoever runs the server can raise the limit.", args...)
}

// in says which entry an error is about.
func in(name string, err error) error {
	if e, ok := err.(*sandpool.Error); ok {
		told := *e
		told.Message = fmt.Sprintf("%s (at %q in a layer)", e.Message, short(name))
		return &told
	}
	return fmt.Errorf("layer entry %q: %w", short(name), err)
}

// short is a name in a message.
func short(name string) string {
	const most = 200
	if len(name) > most {
		return name[:most] + "…"
	}
	return name
}
