// Package auth decides who a request comes from and what it may do.
//
// A caller shows a bearer token. The token's row in the store says its role
// and, if it is limited to one pool, which. Authenticator turns a request into a
// Principal; Allow, a pure function, says whether that principal may take an
// action on a pool. Everything is denied that Allow does not permit, and
// nothing but the paths that the server names as open is answered without a principal.
//
// Permission is checked before a resource is looked up. So a caller without it
// gets the same answer whether the resource exists or not.
package auth
