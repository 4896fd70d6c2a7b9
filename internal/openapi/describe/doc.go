// Package describe writes the OpenAPI description of both planes: a table of operations, whose
// schemas are made of the Go types of package api and their comments. It is for the test of package
// openapi that keeps the written description; a server has that, and not this package.
package describe
