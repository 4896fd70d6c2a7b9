// Package machine measures what the machine that sandboxes run on has left: memory, the disk that
// holds what they write, and threads; and how much it waits for memory. It reads /proc, and the
// groups that bound the sandboxes together (cgroups(7)).
package machine
