// Package auth decides who a request comes from and what it may do.
//
// A request shows one credential. The server has several verifiers, and the first that
// recognizes its form turns it into a Principal: a subject, and grants of roles in scopes.
// Allow, a pure function, says whether a principal may take an action on a part of the
// resource tree. Everything is denied that Allow does not permit, and nothing but the paths
// that the server names as open is answered without a principal.
//
//	request ─▶ Authenticator ─▶ Credential ─▶ Verifier ─▶ Principal ─▶ Allow
//	                                          (Tokens: the server's own)
//
// Permission is checked before a resource is looked up. So a caller without it
// gets the same answer whether the resource exists or not.
package auth
