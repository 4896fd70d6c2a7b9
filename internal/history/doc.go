// Package history remembers how pools and sessions did lately, in numbers that can be drawn: the
// last hour in steps of 15 seconds, the last day in steps of five minutes, the last week in steps
// of half an hour. Of each session that is there it keeps what it took of the machine, and how its
// last executions went: never their code, and never an identifier.
//
// It learns from the server's events, beside the work, and asks the pools every 15 seconds. All of
// it is in memory, bounded, and begins anew with the server: what has to outlast that is for
// Prometheus.
//
//	events ───▶ Consume ─┐
//	                     ├──▶ rings of buckets for each pool, of samples for each session
//	pools ◀──── sample ──┘
package history
