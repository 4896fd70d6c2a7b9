// Package proxy forwards what callers send to a custom pool into the container of their session.
package proxy
