// Package network is what the control plane says of the networks of pools: it reads them in
// requests, shows them, and tells what would become of a connection.
package network

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/egress"
)

// Host is what the control plane asks about the networks of sandboxes.
type Host interface {
	// Ready is nil if sandboxes can have one; otherwise it says what the host lacks.
	Ready() error
	// Ground is what lies beneath every policy.
	Ground() *egress.Ground
	// Lookup resolves a name as the sandboxes' resolver does.
	Lookup(ctx context.Context, name string) ([]netip.Addr, error)
}

const (
	statusTarget = "properties.sessionNetworkConfiguration.status"
	egressTarget = "properties.sandpool.egress"
)

// Parse reads what sandboxes may reach; bandwidth is that of e, in bytes. A policy is kept while
// the network is off. Without a host pools can have no network.
func Parse(host Host, n *api.SessionNetworkConfiguration, e *api.Egress,
	bandwidth int64) (is sandpool.Network, problems []*sandpool.Error) {
	add := func(class sandpool.Class, code, format string, args ...any) {
		problems = append(problems, sandpool.Errorf(class, code, statusTarget,
			statusTarget+" is "+format, args...))
	}
	const unsupported = "SessionPoolFeatureNotSupported"
	is.Status = sandpool.EgressDisabled
	switch {
	case n == nil || n.Status == "" || strings.EqualFold(n.Status, string(sandpool.EgressDisabled)):
	case !strings.EqualFold(n.Status, string(sandpool.EgressEnabled)):
		add(sandpool.Invalid, "SessionPoolInvalidProperty",
			"%q; use %s or %s.", n.Status, sandpool.EgressDisabled, sandpool.EgressEnabled)
	case host == nil:
		add(sandpool.Unsupported, unsupported, "%s, which this server does not support. Use %s.",
			sandpool.EgressEnabled, sandpool.EgressDisabled)
	default:
		is.Status = sandpool.EgressEnabled
		if err := host.Ready(); err != nil {
			add(sandpool.Unsupported, unsupported, "%s: %v", sandpool.EgressEnabled, err)
		}
	}
	if e == nil {
		return is, problems
	}
	is.Allow, is.Deny, is.Bandwidth = e.Allow, e.Deny, bandwidth
	is.Inspect = e.Inspect != nil && *e.Inspect
	is.Proxy = e.Proxy != nil && *e.Proxy
	for _, c := range e.Credentials {
		is.Credentials = append(is.Credentials, sandpool.Credential{URL: c.URL, Header: c.Header,
			Prefix: c.Prefix, SecretRef: c.SecretRef})
	}
	if e.MaxConnections != nil {
		is.Connections = int(min(*e.MaxConnections, 1<<30))
	}
	_, err := egress.Parse(is, egressTarget)
	var wrong *sandpool.Error
	if errors.As(err, &wrong) {
		problems = append(problems, wrong)
	}
	return is, problems
}

// Egress is the inverse of Parse for what Azure has no name for; bandwidth is as people write it.
func Egress(n sandpool.Network, bandwidth string) *api.Egress {
	e := shown(n, bandwidth)
	if n.Connections != 0 {
		most := int64(n.Connections)
		e.MaxConnections = &most
	}
	if len(e.Allow) == 0 && len(e.Deny) == 0 && len(e.Credentials) == 0 &&
		e.MaxConnections == nil && e.Bandwidth == "" && e.Inspect == nil && e.Proxy == nil {
		return nil
	}
	return &e
}

func shown(n sandpool.Network, bandwidth string) api.Egress {
	e := api.Egress{Allow: n.Allow, Deny: n.Deny, Bandwidth: bandwidth}
	if n.Inspect {
		e.Inspect = &n.Inspect
	}
	if n.Proxy {
		e.Proxy = &n.Proxy
	}
	for _, c := range n.Credentials {
		e.Credentials = append(e.Credentials, api.EgressCredential{URL: c.URL, Header: c.Header,
			Prefix: c.Prefix, SecretRef: c.SecretRef})
	}
	return e
}

// Show answers what sandboxes with the network n may reach, and, if the request names a
// destination, whether they may reach that, and why. A name is looked up only if the policy has it.
func Show(host Host, n sandpool.Network, bandwidth string,
	r *http.Request) (api.EgressPolicy, error) {
	policy, err := egress.Parse(n, egressTarget)
	if err != nil {
		return api.EgressPolicy{}, err
	}
	out := api.EgressPolicy{Status: string(n.Status),
		Egress: shown(n, bandwidth)}
	if policy.Enabled() {
		most := int64(policy.Connections)
		out.MaxConnections = &most
	}
	query := r.URL.Query()
	if to := query.Get(api.DestinationParameter); to != "" {
		out.Test, err = try(r.Context(), host, policy, to, query.Get(api.ProtocolParameter))
	}
	return out, err
}

// try says what would become of a connection.
func try(ctx context.Context, host Host, policy egress.Policy,
	to, protocol string) (*api.EgressTest, error) {
	name, service, err := net.SplitHostPort(to)
	port, perr := strconv.ParseUint(service, 10, 16)
	if err != nil || perr != nil || port == 0 || name == "" {
		return nil,
			sandpool.Errorf(sandpool.Invalid, "InvalidDestination", api.DestinationParameter,
				"The destination %.120q is not HOST:PORT, such as example.com:443.", to)
	}
	proto := egress.TCP
	switch strings.ToLower(protocol) {
	case "", string(egress.TCP):
	case string(egress.UDP):
		proto = egress.UDP
	default:
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidProtocol", api.ProtocolParameter,
			"The protocol is %.20q; use tcp or udp. Nothing else leaves a sandbox.", protocol)
	}
	ground, lookup := egress.NewGround(nil), func(context.Context, string) ([]netip.Addr, error) {
		return nil, nil
	}
	if host != nil {
		ground, lookup = host.Ground(), host.Lookup
	}
	out := &api.EgressTest{Destination: to, Protocol: string(proto)}
	var found []netip.Addr
	beyond := policy.Proxy && ground.Upstream() // which resolves names itself
	if plain, err := egress.ParseName(name); err == nil && policy.Name(plain).Allowed && !beyond {
		if found, err = lookup(ctx, plain); err != nil {
			out.Reason = "The name cannot be resolved: " + err.Error()
			return out, nil
		}
	}
	for _, a := range found {
		out.Addresses = append(out.Addresses, a.String())
	}
	v := policy.Destination(ground, name, found, proto, uint16(port))
	out.Allowed, out.Reason = v.Allowed, v.Reason
	return out, nil
}

// Refusals is what a pool's sandboxes were refused, as callers read it; nil if they have no
// network.
func Refusals(r *sandpool.Refusals) *api.Refusals {
	if r == nil {
		return nil
	}
	out := &api.Refusals{Packets: r.Packets, Names: r.Names, Recent: []api.Refusal{}}
	for _, one := range r.Recent {
		out.Recent = append(out.Recent, api.Refusal{Time: one.Time.UTC().Format(time.RFC3339Nano),
			Host: one.Host, Port: int(one.Port), Protocol: one.Protocol, Reason: one.Reason,
			Count: one.Count})
	}
	return out
}
