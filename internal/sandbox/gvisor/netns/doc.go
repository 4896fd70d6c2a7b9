// Package netns gives sandboxes a network of which nothing but what their policies allow can be
// reached, and owns every kernel object that this takes.
//
// # The gateway
//
// All sandboxes of an engine that have a network share one gateway: a network namespace of its own,
// without a process, that a bind mount in the engine's directory holds. A sandbox is joined to it
// by a pair of links, and it to the host by one more:
//
//	sandbox's namespace     gateway's namespace                      host
//	eth0 198.18.x.y/32 ──── sbN ─ nftables ─ up 169.254.a.b ──── sp… 169.254.a.c ─ NAT ─▶
//
// Filtering happens in the gateway, where nobody else has rules: the host's own firewall and its
// reloads change nothing there, and the addresses of sandboxes are seen nowhere else. The host adds
// two rules of its own, in a table of its own: what comes from the gateway reaches nothing of the
// host itself, and what goes on has the host's address. If somebody removes that table, packets go
// out with an address that nobody answers, the gateway still knows the host's addresses, and the
// table is put back.
//
// The gateway's table is one for all sandboxes; see rules. A sandbox is a few elements of its maps:
// which chain has its policy, and which connections that policy has accepted. Each accepted
// connection is marked with the sandbox and the number of its policy, and only connections with
// the present mark pass without being judged anew. So a change of one element ends what a policy no
// longer allows, in both directions, and lets the rest go on.
//
// # IPv6
//
// If the server says so, each of those links has an address of IPv6 as well, from a private prefix
// of ours, and packets of it pass the same chains. A sandbox is known by the name of its link, so
// that its policy, mark, bounds and counters are the same elements for both families; what differs
// is in family, a header and some sets of addresses. Neighbour discovery, which has no part in a
// network of pairs, is replaced by permanent neighbours at every end, and what comes of it from a
// sandbox is dropped before anything else sees it. So are router advertisements. Fragments are put
// together before the first rule; what has an extension header after that is refused, because rules
// about TCP would find it behind any number of them.
//
// # What is found again
//
// A sandbox's share is a file in its directory, which is written before the kernel is asked for
// anything. Links go when the sandbox's namespace does, and with them routes and neighbours. After
// kill -9 the gateway goes on as it is; Open reads the files, writes the table anew in one
// transaction, and what no file tells of is gone.
package netns
