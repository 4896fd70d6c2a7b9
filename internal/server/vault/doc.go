// Package vault opens what outlives a server, with its secrets sealed. The stores keep secrets as
// they are given; State seals what it gives them, and opens what they return, with a key that is
// outside the store (package keyring). So a copy of the store alone holds no secret in plain text.
//
//	open.go    which store, and with which key     rekey.go  a new key
//	sealed.go  the store, with sealed secrets      copy.go   from a file into a PostgreSQL
package vault
