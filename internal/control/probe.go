package control

import (
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/pattern"
)

// headerName is a token of RFC 9110, section 5.6.2.
var headerName = pattern.Lazy("^[-!#$%&'*+.^_`|~0-9A-Za-z]{1,256}$")

// parseProbes reads the probes of a container, at most one of each type.
func parseProbes(ps *problems, c *sandpool.Container, target string, probes []api.ContainerProbe) {
	for i, wire := range probes {
		at := fmt.Sprintf("%s[%d]", target, i)
		place := &c.Startup
		switch {
		case strings.EqualFold(wire.Type, api.StartupProbe):
		case strings.EqualFold(wire.Type, api.LivenessProbe):
			place = &c.Liveness
		case strings.EqualFold(wire.Type, "Readiness"):
			ps.unsupported(at+".type", "probes of the type Readiness")
			continue
		default:
			ps.invalid(at+".type", "%s.type is %.60q; use %s or %s.", at, wire.Type,
				api.StartupProbe, api.LivenessProbe)
			continue
		}
		if *place != nil {
			ps.invalid(at+".type",
				"%s.type is %s, as that of an earlier probe; give one of each type.", at, wire.Type)
			continue
		}
		p := parseProbe(ps, at, wire)
		*place = &p
	}
}

// A probe's ranges are Azure's, except that a Startup probe may fail longer than 10 times, as in
// the examples of Azure's own pages.
func parseProbe(ps *problems, at string, wire api.ContainerProbe) (p sandpool.Probe) {
	number := func(name string, v *int, least, most int) int {
		if v == nil {
			return 0
		}
		if *v < least || *v > most {
			ps.invalid(at+"."+name, "%s.%s is %d; use %d to %d.", at, name, *v, least, most)
			return least
		}
		return *v
	}
	seconds := func(name string, v *int, least, most int) time.Duration {
		return time.Duration(number(name, v, least, most)) * time.Second
	}
	p.Delay = seconds("initialDelaySeconds", wire.InitialDelaySeconds, 0, 60)
	p.Period = seconds("periodSeconds", wire.PeriodSeconds, 1, 240)
	p.Timeout = seconds("timeoutSeconds", wire.TimeoutSeconds, 1, 240)
	p.Grace = seconds("terminationGracePeriodSeconds", wire.TerminationGracePeriodSeconds, 0, 3600)
	p.Failures = number("failureThreshold", wire.FailureThreshold, 1, 240)
	p.Successes = number("successThreshold", wire.SuccessThreshold, 1, 1)
	switch {
	case (wire.HTTPGet == nil) == (wire.TCPSocket == nil):
		ps.invalid(at, "%s needs httpGet or tcpSocket, and not both.", at)
	case wire.TCPSocket != nil:
		p.TCP.Port = parsePort(ps, at+".tcpSocket.port", wire.TCPSocket.Port)
		if h := wire.TCPSocket.Host; h != "" && !isLoopback(h) {
			ps.unsupported(at+".tcpSocket.host", "probes of other hosts than the container")
		}
	default:
		p.HTTP = parseHTTPGet(ps, at+".httpGet", wire.HTTPGet)
	}
	return p
}

// isLoopback reports whether a probe's host means the container itself.
func isLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "0.0.0.0" || host == "::1"
}

func parseHTTPGet(ps *problems, at string, get *api.HTTPGet) sandpool.HTTPProbe {
	p := sandpool.HTTPProbe{Port: parsePort(ps, at+".port", get.Port), Path: get.Path,
		TLS: strings.EqualFold(get.Scheme, "HTTPS")}
	if get.Path != "" && (!strings.HasPrefix(get.Path, "/") || len(get.Path) > 2048 ||
		strings.ContainsAny(get.Path, " #") || hasControl(get.Path)) {
		ps.invalid(at+".path",
			"%s.path is %.120q; use a path that begins with a slash, without spaces.", at, get.Path)
	}
	if get.Scheme != "" && !p.TLS && !strings.EqualFold(get.Scheme, "HTTP") {
		ps.invalid(at+".scheme", "%s.scheme is %.60q; use HTTP or HTTPS.", at, get.Scheme)
	}
	// The probe goes to the container whatever its host says; it is what the header Host says.
	if p.Host = get.Host; p.Host != "" && (len(p.Host) > 255 || !serverName().MatchString(p.Host)) {
		ps.invalid(at+".host", "%s.host is %.120q, which is not a host name.", at, p.Host)
	}
	if len(get.HTTPHeaders) > 32 {
		ps.invalid(at+".httpHeaders", "%s.httpHeaders has %d entries; use at most 32.", at,
			len(get.HTTPHeaders))
		return p
	}
	for i, h := range get.HTTPHeaders {
		if !headerName().MatchString(h.Name) || hasControl(h.Value) || len(h.Value) > 4096 {
			ps.invalid(fmt.Sprintf("%s.httpHeaders[%d]", at, i), "%s.httpHeaders[%d] is not a "+
				"header: its name or its value has a character that headers cannot have.", at, i)
			continue
		}
		p.Headers = append(p.Headers, sandpool.Header{Name: h.Name, Value: h.Value})
	}
	return p
}

// probes writes the probes of c as they were read.
func probes(c *sandpool.Container) (list []api.ContainerProbe) {
	for _, each := range []struct {
		kind  string
		probe *sandpool.Probe
	}{{api.StartupProbe, c.Startup}, {api.LivenessProbe, c.Liveness}} {
		if each.probe != nil {
			list = append(list, probe(each.kind, *each.probe))
		}
	}
	return list
}

func probe(kind string, p sandpool.Probe) api.ContainerProbe {
	out := api.ContainerProbe{Type: kind,
		FailureThreshold: orNil(p.Failures), SuccessThreshold: orNil(p.Successes),
		InitialDelaySeconds: secondsOrNil(p.Delay), PeriodSeconds: secondsOrNil(p.Period),
		TimeoutSeconds: secondsOrNil(p.Timeout), TerminationGracePeriodSeconds: secondsOrNil(
			p.Grace)}
	if p.TCP.Port != 0 {
		out.TCPSocket = &api.TCPSocket{Port: &p.TCP.Port}
		return out
	}
	get := &api.HTTPGet{Host: p.HTTP.Host, Path: p.HTTP.Path, Port: &p.HTTP.Port, Scheme: "HTTP"}
	if p.HTTP.TLS {
		get.Scheme = "HTTPS"
	}
	for _, h := range p.HTTP.Headers {
		get.HTTPHeaders = append(get.HTTPHeaders, api.HTTPHeader(h))
	}
	out.HTTPGet = get
	return out
}

func orNil(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func secondsOrNil(d time.Duration) *int { return orNil(int(d / time.Second)) }
