package tracing

import (
	"encoding/binary"
	"time"
)

// The wire types of protocol buffers (https://protobuf.dev/programming-guides/encoding).
const (
	varint  = 0
	fixed64 = 1
	length  = 2
	fixed32 = 5
)

// message is a message that is being written.
type message []byte

func (m *message) tag(field, wire int) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|uint64(wire))
}

func (m *message) bytes(field int, b []byte) {
	m.tag(field, length)
	*m = binary.AppendUvarint(*m, uint64(len(b)))
	*m = append(*m, b...)
}

func (m *message) text(field int, s string) { m.bytes(field, []byte(s)) }

func (m *message) uint(field int, n uint64) {
	m.tag(field, varint)
	*m = binary.AppendUvarint(*m, n)
}

func (m *message) time(field int, t time.Time) {
	m.tag(field, fixed64)
	*m = binary.LittleEndian.AppendUint64(*m, uint64(t.UnixNano()))
}

// attribute is a KeyValue.
func (m *message) attribute(field int, a attribute) {
	var value, pair message
	if a.isInt {
		value.uint(3, uint64(a.whole))
	} else {
		value.text(1, a.text)
	}
	pair.text(1, a.key)
	pair.bytes(2, value)
	m.bytes(field, pair)
}

// encode is the ExportTraceServiceRequest of spans of a service
// (opentelemetry/proto/collector/trace/v1 and trace/v1).
func encode(service, version string, spans []*Span) []byte {
	var resource, scope, scoped, all, request message
	resource.attribute(1, attribute{key: "service.name", text: service})
	resource.attribute(1, attribute{key: "service.version", text: version})
	scope.text(1, "github.com/sandpool/sandpool")
	scoped.bytes(1, scope)
	for _, s := range spans {
		scoped.bytes(2, s.encode())
	}
	all.bytes(1, resource)
	all.bytes(2, scoped)
	request.bytes(1, all)
	return request
}

// encode is the Span of s.
func (s *Span) encode() []byte {
	var m message
	m.bytes(1, s.trace[:])
	m.bytes(2, s.id[:])
	if s.parent != [8]byte{} {
		m.bytes(4, s.parent[:])
	}
	m.text(5, s.name)
	m.uint(6, uint64(s.kind))
	m.time(7, s.start)
	m.time(8, s.end)
	for _, a := range s.attributes {
		m.attribute(9, a)
	}
	if s.failed != "" {
		var status message
		status.text(2, s.failed)
		status.uint(3, 2) // STATUS_CODE_ERROR
		m.bytes(15, status)
	}
	m.tag(16, fixed32)
	m = binary.LittleEndian.AppendUint32(m, 1) // sampled
	return m
}
