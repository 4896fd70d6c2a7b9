// Package peer carries requests between servers that share a store. A pool has one owner; a request
// for it may come to any server, which hands it to the owner and the answer back, piece by piece.
//
//	caller ─▶ server A: whose pool is it? ── its own ─▶ authentication, branch, …
//	              │
//	              └ B's ─ mutual TLS ─▶ server B: its own? ─▶ authentication, branch, …
//	                                        └ no ─▶ "moved": A asks the store, and again
//
// # What is trusted
//
// A request is handed on as it came, before anybody has looked at its token, and B checks it as if
// the caller had come to B. So a server believes of another one only what a proxy may say: the
// address that the caller came from and to, whether that was TLS, and the trace. Whoever takes over
// a server, or reads the authority's key in the store, does not become an administrator of the
// others by it.
//
// # What the caller sees
//
// The same as if there were one server. The request line passes byte for byte, as do bodies,
// trailers, changes of protocol (WebSocket, tunnels) and HTTP/2 (gRPC). A request is never handed
// on twice in a row: B answers "moved" instead. A tries again as long as nothing of the body was
// used up, which holds for every body up to maxKept; a server that cannot be reached is waited for
// until another one has its pools. A request that the owner got, and died with, is not repeated:
// it may have been carried out.
//
// # Certificates
//
// The servers' own authority is made once and kept in the store, where it is as secret as the
// pools' secrets; each server signs itself a certificate for the host of its address. Or all three
// files are given. A certificate of the authority is needed to connect at all, in both directions.
package peer
