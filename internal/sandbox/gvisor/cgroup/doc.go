// Package cgroup keeps the part of the cgroup filesystem that belongs to one engine: a parent
// group, and beneath it a group for each sandbox, known by the sandbox's ID alone.
//
// A group bounds what its sandbox takes of memory, processor and threads, counts what it
// uses, and is the truth about what runs: a sandbox's first process is born into its group, so
// a server that is killed at any moment leaves no process that List does not lead to.
//
// Linux has two versions of cgroups, which share almost nothing. Version 1 has a hierarchy for
// each controller, so a group is a directory in each (cgroups(7)); version 2 has one. Tree is
// what both have in common, and version what each does in its own way. On a machine with both,
// version 2 is used if it has the controllers.
package cgroup
