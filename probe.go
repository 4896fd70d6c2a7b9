package sandpool

import (
	"slices"
	"time"
)

// Probe asks whether a sandbox works: in exactly one way of HTTP, TCP and Exec, whose zero
// values mean "not this way". It is asked at the sandbox's own loopback interface.
type Probe struct {
	HTTP HTTPProbe `json:"http,omitzero"`
	TCP  TCPProbe  `json:"tcp,omitzero"`
	// Exec is a command line; the probe passes if it exits with 0.
	Exec []string `json:"exec,omitempty"`

	// Delay is the time before the first attempt, Period that between two, and Timeout bounds
	// one. Zero means none, 10 s and 1 s.
	Delay   time.Duration `json:"delay,omitempty"`
	Period  time.Duration `json:"period,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	// Failures in a row make the probe fail, and Successes in a row make it pass; zero means
	// 3 and 1.
	Failures  int `json:"failures,omitempty"`
	Successes int `json:"successes,omitempty"`
	// Grace is how long the first process may take to end after its stop signal, if this
	// probe is why it is stopped; zero means the template's.
	Grace time.Duration `json:"grace,omitempty"`
}

// HTTPProbe is a GET that passes if it is answered with a status from 200 to 399.
type HTTPProbe struct {
	Port int    `json:"port,omitempty"`
	Path string `json:"path,omitempty"` // empty means "/"
	// TLS asks by HTTPS. The certificate is not checked, as the peer is the sandbox itself.
	TLS bool `json:"tls,omitempty"`
	// Host is what the header Host says; empty means the sandbox's loopback address.
	Host    string   `json:"host,omitempty"`
	Headers []Header `json:"headers,omitempty"`
}

// Header is one header of an HTTP request.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPProbe is a connection that passes if the port takes it and does not close it at once.
type TCPProbe struct {
	Port int `json:"port,omitempty"`
}

// Clone returns a copy that shares nothing with p, which may be nil.
func (p *Probe) Clone() *Probe {
	if p == nil {
		return nil
	}
	q := *p
	q.HTTP.Headers, q.Exec = slices.Clone(p.HTTP.Headers), slices.Clone(p.Exec)
	return &q
}

// Defaults of a probe's numbers: those of Kubernetes, which Azure has as well.
const (
	DefaultProbePeriod   = 10 * time.Second
	DefaultProbeTimeout  = time.Second
	DefaultProbeFailures = 3
)

// WithDefaults returns p with every number set.
func (p Probe) WithDefaults() Probe {
	if p.Period == 0 {
		p.Period = DefaultProbePeriod
	}
	if p.Timeout == 0 {
		p.Timeout = DefaultProbeTimeout
	}
	if p.Failures == 0 {
		p.Failures = DefaultProbeFailures
	}
	if p.Successes == 0 {
		p.Successes = 1
	}
	return p
}
