// Package arm is the grammar that both planes share with Azure Resource
// Manager: paths and resource ids, JSON bodies, trace ids, and errors.
//
// Handlers return errors; Responder.Handle turns each into an answer, once.
// One table says which class of error has which HTTP status and code. The
// server writes answers by it and the Go client reads them by it, so that an
// error has the same class on both sides of the wire.
//
// Requests pass through Trace and Normalise before they reach a mux, so that
// routes need to know one spelling of each path only.
package arm
