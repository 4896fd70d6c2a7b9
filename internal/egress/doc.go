// Package egress says what the sandboxes of a pool may reach, and holds them to it as far as
// names go. It knows no engine and no kernel: an engine that gives sandboxes a network takes a
// Policy, makes its addresses, prefixes and ports true in its own way, and runs a Resolver beside
// them.
//
// A Policy is a value. Parse makes one of a sandpool.Network, with errors that name the entry
// that is wrong; Decide says of a destination whether it is allowed, and by which entry. Names are
// the resolver's to enforce: it answers those that the policy allows, tells the engine which
// addresses it has answered and for how long, and asks nobody about any other name, so that
// nothing can be carried out of a sandbox in the questions.
//
// Beneath every policy lies what no policy opens: Special, the ranges that are not the public
// network (RFC 6890 and the registries of IANA that it began), with the metadata services of
// clouds among them. An operator may open some of them, to those policies that name them.
package egress
