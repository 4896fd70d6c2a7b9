// Package issuer gives out and verifies the server's own JSON Web Tokens, in the ways in which
// Azure's clients ask for tokens: OAuth 2.0 client credentials at the paths of Entra ID and of
// ADFS, and the endpoint of managed identities. It answers the discovery that they do first.
//
// It has no accounts of its own. A client is a token of the server (package auth): its id is
// the client id, its text the client secret, or the header of the identity endpoint. The JWT
// says who it is and lives an hour at most; what it may do is looked up with each request, so
// a token that is revoked ends its JWTs at once.
//
// The key is made once and kept in a file below the data directory. Tokens of other issuers
// are not accepted, and no algorithm but the key's own.
package issuer
