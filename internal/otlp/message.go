package otlp

import (
	"encoding/binary"
	"math"
	"os"
	"time"
)

// The wire types of protocol buffers (https://protobuf.dev/programming-guides/encoding).
const (
	varint  = 0
	fixed64 = 1
	length  = 2
	fixed32 = 5
)

// Message is a message of protocol buffers that is being written.
type Message []byte

func (m *Message) tag(field, wire int) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|uint64(wire))
}

// Bytes writes bytes, or a message, or packed numbers.
func (m *Message) Bytes(field int, b []byte) {
	m.tag(field, length)
	*m = binary.AppendUvarint(*m, uint64(len(b)))
	*m = append(*m, b...)
}

// Text writes a string.
func (m *Message) Text(field int, s string) { m.Bytes(field, []byte(s)) }

// Uint writes a number of a length of its own: uint32, uint64, bool, an enumeration.
func (m *Message) Uint(field int, n uint64) {
	m.tag(field, varint)
	*m = binary.AppendUvarint(*m, n)
}

// Fixed64 writes eight bytes.
func (m *Message) Fixed64(field int, n uint64) {
	m.tag(field, fixed64)
	*m = binary.LittleEndian.AppendUint64(*m, n)
}

// Fixed32 writes four bytes.
func (m *Message) Fixed32(field int, n uint32) {
	m.tag(field, fixed32)
	*m = binary.LittleEndian.AppendUint32(*m, n)
}

// Double writes a number with a fraction.
func (m *Message) Double(field int, f float64) { m.Fixed64(field, math.Float64bits(f)) }

// Time writes a time in nanoseconds; zero is left out.
func (m *Message) Time(field int, t time.Time) {
	if !t.IsZero() {
		m.Fixed64(field, uint64(t.UnixNano()))
	}
}

// Packed writes numbers of eight bytes.
func (m *Message) Packed(field int, numbers []uint64) {
	b := make([]byte, 0, 8*len(numbers))
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	m.Bytes(field, b)
}

// Attribute writes a KeyValue, whose value is a string, an int64 or a float64.
func (m *Message) Attribute(field int, key string, v any) {
	var value, pair Message
	switch v := v.(type) {
	case string:
		value.Text(1, v)
	case int64:
		value.Uint(3, uint64(v))
	case float64:
		value.Double(4, v)
	}
	pair.Text(1, key)
	pair.Bytes(2, value)
	m.Bytes(field, pair)
}

// AnyText writes an AnyValue that is a string.
func (m *Message) AnyText(field int, s string) {
	var value Message
	value.Text(1, s)
	m.Bytes(field, value)
}

// Request is the request of a signal for things of this program: what fill writes is what is in
// its one scope, each as field 2. All signals have the same frame around that.
func Request(version string, fill func(scoped *Message)) []byte {
	var resource, scope, scoped, all, request Message
	resource.Attribute(1, "service.name", "sandpool")
	resource.Attribute(1, "service.version", version)
	if host, err := os.Hostname(); err == nil {
		resource.Attribute(1, "service.instance.id", host)
	}
	scope.Text(1, "github.com/sandpool/sandpool")
	scoped.Bytes(1, scope)
	fill(&scoped)
	all.Bytes(1, resource)
	all.Bytes(2, scoped)
	request.Bytes(1, all)
	return request
}
