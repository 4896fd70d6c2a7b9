// Package identity is the managed identities of pools: who a pool is to others, and the endpoint at
// which code in its sandboxes gets tokens that say so.
//
// # The endpoint
//
// It is that of Azure App Service and Container Apps (api-version 2019-08-01), so that the
// DefaultAzureCredential of every SDK finds it: the environment has IDENTITY_ENDPOINT, an address
// on the sandbox's own loopback interface, and IDENTITY_HEADER, a secret that a request has to
// show. The engine takes the connection inside the sandbox's network stack and hands it to the
// server (sandbox.Accepter). So it needs no network, no program in the sandbox listens for it, and
// whose connection it is follows from where it came from, not from what it says. No sandbox reaches
// the endpoint of another one.
//
// The header guards against code that makes others send requests for it (a page that is fetched, a
// proxy). It is derived from the sandbox's secret, which is made when the sandbox starts: it is in
// no snapshot, and no clone has that of its siblings.
//
// # What a token is
//
// A token is the server's own (package issuer), of a principal that the pool's settings name. It is
// good for a quarter of an hour and for one audience, which must be one that the pool allows.
// Before each token the pool is looked up, and again with each request that shows one to this
// server: when the pool is deleted, loses its identity or takes the audience back, both end at
// once.
//
// # What is bounded
//
// A sandbox has two connections at a time, five a second, and a few seconds for each; what goes
// beyond waits inside the sandbox. A token is issued anew when a third of its life is over, and
// each one is a record of the audit log, so that code which asks in a loop fills neither.
package identity
