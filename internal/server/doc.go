// Package server assembles the program: it reads the configuration, opens the
// store, the engine and the image store, wires the planes to the pool, and
// runs everything as one value with Run and Close. It alone names the concrete engine and
// store; tests start the same value on port 0.
package server
