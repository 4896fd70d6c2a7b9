// Package openapi serves the OpenAPI 3.1 description of both planes, and a page that shows it.
//
// The description, openapi.json, is written by package describe from a table of operations and the
// types of package api; a test says when it is out of date, and writes it with -update. That the
// server does what it says is held by package openapitest in the tests of the handlers: each
// answer of theirs must be described, and each that is described must be given.
package openapi
