// Package endpoint is where a pool's data plane begins: it finds the pool that a request is for and
// hands the request to the part of the server that serves pools of its kind.
//
// Split finds the pool, before anything else looks at the request; so what only the other requests
// need, such as signing in, is not on the way of these. A request comes to the Branch authenticated
// and otherwise untouched, and branches once:
//
//	                      ┌─ custom container ─▶ Custom: below .management what is served of every
//	path or host ─▶ pool ─┤                      pool, /mcp if the pool has tools; else the
//	                      │                      container, which sees the path as it came
//	                      └─ code ─────────────▶ /mcp: the MCP endpoint
//	                                             else one spelling of the path ─▶ the gateway
//	neither ─────────────────────────────────▶ one spelling of the path ─▶ the control plane
//
// What a container sees of a path is its application's business: two slashes, dots, a "%2F" or a
// ";" may mean something there. So the branch reads the request line as it came, before anything
// has given it one spelling, and takes no more of it than the pool's endpoint.
//
// Whether a pool exists does not show here: a request for one that does not takes the way of code
// pools, where permission is checked first.
//
// # Host names
//
// A pool is reached below its path. If the server has a suffix for host names, it is reached at one
// of its own too, as Azure's pools are:
//
//	{pool}.{suffix}                            in the server's own subscription and resource group
//	{pool}.{resource group}.{subscription}.{suffix}   in any other
//
// The name says which pool it is, so that nobody can take another's by making a pool of the same
// name. At such a host everything is the pool's; the control plane is not there.
package endpoint
