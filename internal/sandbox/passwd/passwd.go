// Package passwd turns the names of users and groups into numbers, by a root filesystem's own
// /etc/passwd and /etc/group (passwd(5), group(5)). Both files come with an image and are
// hostile: they are read up to a bound, and a line that is not well formed is left out, as the C
// library does it.
package passwd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
)

// Identity is who a process is.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, sorted
	Home     string   // "/" if the user has no entry
}

// maxFile bounds what is read of one file, and maxID the numbers: the largest one means "none"
// to the kernel.
const (
	maxFile  = 1 << 20
	maxID    = 1<<32 - 2
	maxLinks = 8
)

// Lookup finds who "name", "uid", "name:group" or "uid:gid" is in a root filesystem, with further
// supplementary groups. Empty means user 0. A number needs no entry; a name without one is an
// error of class Invalid.
func Lookup(root fs.FS, user string, groups []string) (Identity, error) {
	users, err := entries(root, "etc/passwd")
	if err != nil {
		return Identity{}, err
	}
	known, err := entries(root, "etc/group")
	if err != nil {
		return Identity{}, err
	}
	name, group, withGroup := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	id, entry, err := findUser(users, name)
	if err != nil {
		return Identity{}, err
	}
	if withGroup && group != "" {
		if id.GID, err = findGroup(known, group); err != nil {
			return Identity{}, err
		}
	} else if entry != "" {
		id.Groups = memberOf(known, entry) // a group that was named takes the place of all
	}
	for _, g := range groups {
		gid, err := findGroup(known, g)
		if err != nil {
			return Identity{}, err
		}
		id.Groups = append(id.Groups, gid)
	}
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	return id, nil
}

// findUser returns who name is, and the name of the entry that says so, empty if none does.
func findUser(users [][]string, name string) (Identity, string, error) {
	number, isNumber := parseID(name)
	for _, f := range users {
		if len(f) < 6 {
			continue
		}
		uid, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 || f[0] != name && !(isNumber && uid == number) {
			continue
		}
		return Identity{UID: uid, GID: gid, Home: home(f[5])}, f[0], nil
	}
	if isNumber {
		return Identity{UID: number, Home: "/"}, "", nil
	}
	return Identity{}, "", invalid("user", "The image has no user %.60q in /etc/passwd; use a "+
		"number, or an image that has the user.", name)
}

// home is a home directory that can be a variable's value.
func home(dir string) string {
	if !path.IsAbs(dir) || len(dir) > 4096 {
		return "/"
	}
	return dir
}

func findGroup(known [][]string, name string) (uint32, error) {
	number, isNumber := parseID(name)
	if isNumber {
		return number, nil
	}
	for _, f := range known {
		if len(f) < 3 || f[0] != name {
			continue
		}
		if gid, ok := parseID(f[2]); ok {
			return gid, nil
		}
	}
	return 0, invalid("groups", "The image has no group %.60q in /etc/group; use a number, or an "+
		"image that has the group.", name)
}

// memberOf returns the groups that list the user.
func memberOf(known [][]string, user string) (gids []uint32) {
	for _, f := range known {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		if gid, ok := parseID(f[2]); ok {
			gids = append(gids, gid)
		}
	}
	return gids
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n <= maxID && strings.Trim(s, "0123456789") == ""
}

// entries reads the fields of each line. A file that is not there, as in images without any
// user, has none.
func entries(root fs.FS, name string) (list [][]string, err error) {
	f, err := open(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s of the image: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read /%s of the image: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, invalid("root", "The image's /%s has more than %d bytes.", name, maxFile)
	}
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, maxFile+1)
	for scan.Scan() {
		if line := scan.Text(); line != "" && line[0] != '#' && line[0] != '+' && line[0] != '-' {
			list = append(list, strings.Split(line, ":"))
		}
	}
	return list, scan.Err()
}

// open opens a regular file of the image. It follows links inside of the image, which an fs.FS
// may or may not do by itself.
func open(root fs.FS, name string) (fs.File, error) {
	for range maxLinks {
		if !fs.ValidPath(name) {
			return nil, fs.ErrNotExist
		}
		info, err := fs.Lstat(root, name)
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if !info.Mode().IsRegular() {
				return nil, invalid("root", "The image's /%s is no regular file.", name)
			}
			return root.Open(name)
		}
		target, err := fs.ReadLink(root, name)
		if err != nil {
			return nil, err
		}
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(name), target)
		}
		name = strings.TrimPrefix(path.Clean(target), "/")
	}
	return nil, invalid("root", "The image's /%s is a chain of more than %d links.", name, maxLinks)
}

func invalid(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidTemplate", target, format, args...)
}
