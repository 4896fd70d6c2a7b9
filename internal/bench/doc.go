// Package bench measures a running server from outside, through the public API
// alone, as a user meets it: connections are kept alive, every answer is read to its
// end and checked to be right, and what fails is counted, not left out.
//
// The command "sandpool bench" prints its report; the program test/bench runs the same
// measurements with peers in between.
package bench
