// Package proxy forwards what callers send to a custom pool into the container of their session:
// HTTP with everything that belongs to it, WebSockets and other changes of protocol, gRPC, and
// bytes of any other protocol through tunnels.
//
// It knows a sandbox by an interface of three methods (Session), and neither the pool nor the
// engine. Whoever calls it has authenticated the caller, and leases the session between Check and
// Serve: nobody gets one by a request that is refused.
//
// # The way of a request
//
//	          checkRequest   refuses what HTTP/1.1 could not carry without meaning something else
//	          session        the streams of this sandbox, and how much of it is under way
//	          ┌─────────────────┴──────────────────┐
//	HTTP/1.1: take a stream, idle or new           HTTP/2 (gRPC, or the pool says so): the
//	          write the head, a short body with it  standard library's client over a stream
//	          send a long body meanwhile            of the session
//	          read the answer's head, strictly
//	          hand the body on, piece by piece
//	          give the stream back
//
// HTTP/1.1 is written and read here and not by net/http's client, for speed: a fresh stream
// through the engine costs 1.5 ms, and that client's two goroutines for each connection and its
// copies of the head cost more than everything else on the way. Most requests here take one
// goroutine (the server's own), one write, one read.
//
// # Two parsers are one attack
//
// Smuggling and splitting live on bytes that two parsers understand differently. So nothing of
// what a caller or a container has sent as a head is ever copied to the other side: both are
// parsed, checked and written anew, with the framing that was understood. Both sides are hostile.
// A container can do no more by it than spoil answers of its own session, whose streams no other
// session uses, but an answer that could be read in two ways is refused all the same (badAnswer),
// and a stream with a byte on it that nobody asked for is not used again.
//
// # What changes on the way
//
// The method, the path, the query and both bodies pass byte for byte. These fields of
// the request do not pass:
//
//   - Authorization and the cookie that names the session, unless the pool keeps them; other keys
//     and names of ours (X-Ms-Session-Identifier, X-Ms-Apikey, Proxy-Authorization, X-Sandpool-…);
//   - Forwarded, X-Forwarded-…, X-Real-Ip and their like, also spelt with underscores, which CGI
//     does not tell from hyphens: the container learns of its caller from us alone;
//   - Connection, what it names, and the other hop-by-hop fields of RFC 9110, section 7.6.1.
//
// There is no Via: nginx and others stop compressing when they see it. These fields of the
// answer do not pass: the hop-by-hop ones, those that could be taken for ours, and below a path,
// where all pools share an origin, those that speak for an origin. The reason phrase is the
// standard one.
//
// An error of ours has the header arm.OwnHeader, which no container's answer has.
//
// # Who holds what, and for how long
//
//	a request that waits        its goroutine, a stream, 4 KiB
//	one that moves bytes fast   and 128 KiB more in each direction
//	a tunnel                    two goroutines, a stream, 8 KiB
//	an idle stream              no memory to speak of, for Options.IdleTime
//
// A session has at most Options.MaxCalls requests and tunnels, and MaxIdle idle streams. Whoever
// makes the other side wait is cut off after Options.Stall or Quiet. The lease of a request keeps
// its session alive as long as the request lasts. When the session ends, everything of it is
// closed at once, and requests that have no answer yet are told why.
package proxy
