// Package kernfile reads and writes the small text files by which Linux shows
// its state and takes settings: those of /proc, /sys and cgroups.
package kernfile

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Text returns what a file holds, without the blanks around it.
func Text(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

// Int returns the number in a file.
func Int(path string) (int64, error) {
	s, err := Text(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(s, 10, 64)
}

// Ints returns the numbers in a file, one a line.
func Ints(path string) (all []int, err error) {
	s, err := Text(path)
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(s) {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%q in %q: %w", word, path, err)
		}
		all = append(all, n)
	}
	return all, nil
}

// Field returns the number after name in a file of lines "name number".
func Field(path, name string) (int64, error) {
	s, err := Text(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no field %q in %q", name, path)
}

// Fields returns the sum of the numbers after names in such a file.
func Fields(path string, names ...string) (sum int64, err error) {
	s, err := Text(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(s) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !slices.Contains(names, name) {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q in %q: %w", line, path, err)
		}
		sum += n
	}
	return sum, nil
}

// Set writes value to a file, which must exist.
func Set(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
