// Package oidc verifies the tokens of foreign issuers: Entra ID, Keycloak, Google, GitHub Actions,
// Kubernetes, and any other that publishes its keys as OpenID Connect Discovery has it.
//
// # What is believed
//
// An operator names issuers. Nothing is believed of anybody else, and of an issuer only what its
// keys have signed, for one of the audiences that its settings name, within the token's own times.
// The algorithms are pinned to public-key signatures, whatever a token's header or a key says of
// itself, so "none" and a public key in the place of a shared secret lead nowhere.
//
// # What a token gives
//
// A token says who somebody is, never what they may do here. That is in rules, which the operator
// writes: claims that must hold, a role, and the scope in which it is given. A rule without claims
// is refused, since with a public issuer it would let the whole world in. A scope may contain
// claims of the token:
//
//	…/sessionPools/python/identifiers/{oid}:*
//
// gives everybody sessions of their own. Two people's scopes must never meet, so the character
// after a claim must not occur in its value: with "{name}-*", somebody called "ann" would reach the
// sessions of "ann-marie". Whose claim contains it gets nothing by that rule.
//
// # Keys
//
// Keys are fetched when the first token comes, and again when they are an hour old or a token names
// one that is not known, which is how issuers rotate them.
//
//	          fetched                        an hour old, or an unknown key id
//	(none) ─────────────▶ fresh ────────────────────────────────────▶ asked again
//	   ▲                    ▲                                              │
//	   │                    └──────────────────── answered ────────────────┤
//	   └───────────── a day without an answer ──── not answered ───────────┘
//
// Anybody can send tokens that name unknown keys, so an issuer is asked at most once in ten
// seconds, by one request at a time, and others wait for that one's answer. What it answers is
// bounded in size and time. While it is down, known keys are good for a day, and nobody waits for
// it: it is asked beside the requests. It is, too, when its keys are 50 minutes old, so that a slow
// issuer delays nobody whose key is known.
//
// A token that was good is remembered by its hash until it ends or its keys are 50 minutes old, so
// a request costs no signature. One that gives nothing is not remembered: with a public issuer
// anybody has such tokens, and could push out those of others.
//
// # Sign-ins
//
// People sign in to the dashboard with an issuer by the authorization code flow with PKCE. What a
// sign-in is bound to is sealed in the browser; nothing is kept here:
//
//	browser ── Begin ──▶ issuer's pages, with state, nonce and challenge
//	   │  keeps state, nonce and verifier, sealed
//	   └── back, with state and code ── Finish ──▶ issuer: code and verifier, for an ID token
//	                                     └─ nonce, then the rules, as for every token
//
// Somebody else's answer has another state than the browser keeps, an answer that one issuer gives
// to another's sign-in comes to another address and names another "iss", a code that was stolen
// lacks its verifier, and an ID token that was has another nonce.
package oidc
