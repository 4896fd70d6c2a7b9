// Package pool gives identifiers their sandboxes: it claims, keeps sandboxes
// ready, refills, ends sessions after their cooldown, and after a restart
// adopts what still runs.
package pool
