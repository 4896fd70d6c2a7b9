// Package audit keeps who changed what, and who was refused: a log that is only ever appended to,
// and in which a change of any byte shows.
//
// # The chain
//
// The log is files of JSON lines, in the order in which things were done. The last member of a line
// is its hash: SHA-256 over the hash of the line before and all of the line that stands before the
// member itself. So whoever changes, removes, adds or moves a line has to write every later one
// anew, and Verify names the first that does not fit.
//
//	{"seq":7,"time":…,"who":…,"hash":"h7"}    h7 = SHA-256(h6, line 7 without its hash)
//	{"seq":8,"time":…,"who":…,"hash":"h8"}    h8 = SHA-256(h7, line 8 without its hash)
//
// The chain has no secret: somebody who can write the files can write them whole anew. Against that
// the newest hash is to be kept elsewhere, which Head gives, and Verify compares. A server that
// runs compares with the one that it has in memory.
//
// # What is written
//
// A change is written once it was made, before its caller is answered. A refusal is written when
// it is answered, but at most so many in a second: they cost a caller nothing, and must not fill
// the disk. How many were left out stands in the next record. No record holds a secret or a
// session's identifier.
//
// Files have a bounded size and number. When the oldest goes, the chain begins with the first line
// that is left, and Verify says from where on it is whole.
package audit
