// Package api holds the wire types of both planes, for every envelope that an
// api-version of Azure Container Apps dynamic sessions uses. It has no
// behaviour and imports nothing but the standard library, so that clients can use it
// as well as the server.
//
// The data plane knows three envelopes: the old one (up to 2024-08-02-preview:
// everything under "properties"), the new one (from 2024-10-02-preview on:
// flat), and a legacy one of two early paths. The path chooses the envelope; for
// GET files, which both share, the api-version does.
package api
