package pool

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// egressCmd groups the commands about what sandboxes reach.
type egressCmd struct {
	Show egressShowCmd `cmd:"" help:"Show what the sandboxes of a pool may reach, and what they were refused."`
	Test egressTestCmd `cmd:"" help:"Say whether the sandboxes of a pool may reach HOST:PORT, and why. The exit code is 1 if not."`
}

type egressShowCmd struct{ naming }

// Run shows a policy, and the last refusals.
func (c *egressShowCmd) Run(ctx context.Context, a *console.App) error {
	name, cl, err := c.open(a)
	if err != nil {
		return err
	}
	p, err := cl.Egress(ctx, name, "", "")
	if err != nil || a.JSON() {
		if err == nil {
			err = a.PrintJSON(p)
		}
		return err
	}
	t := console.Table{Heading: []string{"STATUS", "ALLOW", "DENY", "INSPECT",
		"PROXY", "CONNECTIONS", "BANDWIDTH"}}
	row := []string{p.Status, strings.Join(p.Allow, " "), strings.Join(p.Deny, " "),
		"no", "no", "", p.Bandwidth}
	if len(p.Allow) == 0 && p.MaxConnections != nil {
		row[1] = "(public)"
	}
	if p.Inspect != nil && *p.Inspect {
		row[3] = "yes"
	}
	if p.Proxy != nil && *p.Proxy {
		row[4] = "yes"
	}
	if p.MaxConnections != nil {
		row[5] = strconv.FormatInt(*p.MaxConnections, 10)
	}
	t.Add(row...)
	if err := t.Write(a.Stdout); err != nil {
		return err
	}
	for _, c := range p.Credentials {
		a.Say("credential: %s  %s: %s[secret %s]", console.Printable(c.URL),
			console.Printable(c.Header), console.Printable(c.Prefix),
			console.Printable(c.SecretRef))
	}
	status, err := cl.PoolStatus(ctx, name)
	if err != nil || status.Egress == nil || len(status.Egress.Recent) == 0 {
		return err
	}
	a.Say("refused: %d packets and %d names; the last:", status.Egress.Packets, status.Egress.Names)
	for _, r := range status.Egress.Recent {
		port := ""
		if r.Port != 0 {
			port = ":" + strconv.Itoa(r.Port)
		}
		a.Say("  %s  %s %s%s  %d times  %s", r.Time, r.Protocol, console.Printable(r.Host),
			port, r.Count, console.Printable(r.Reason))
	}
	return nil
}

type egressTestCmd struct {
	Pool        string `arg:"" help:"Name of the pool."`
	Destination string `arg:"" name:"host:port" help:"Where to."`
	Protocol    string `help:"tcp or udp." default:"tcp"`
}

// credentials reads --egress-credential: a URL, and a header as curl's -H has it whose value ends
// with the name of a secret.
func credentials(flags []string) ([]api.EgressCredential, error) {
	list := []api.EgressCredential{}
	for _, text := range flags {
		if text == "" {
			continue
		}
		url, header, _ := strings.Cut(text, " ")
		name, value, ok := strings.Cut(header, ":")
		prefix, ref, isRef := strings.Cut(strings.TrimSpace(value), "secretref:")
		if !ok || !isRef || ref == "" {
			return nil, console.UsageError(fmt.Sprintf("--egress-credential %q: write "+
				"'https://HOST HEADER: secretref:NAME', with a word such as Bearer before the "+
				"secretref if it needs one", strings.TrimSuffix(url, ":")))
		}
		list = append(list, api.EgressCredential{URL: url, Header: strings.TrimSpace(name),
			Prefix: prefix, SecretRef: ref})
	}
	return list, nil
}

// Run says what would happen.
func (c *egressTestCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	p, err := cl.Egress(ctx, c.Pool, c.Destination, c.Protocol)
	if err != nil {
		return err
	}
	if a.JSON() {
		err = a.PrintJSON(p.Test)
	} else {
		t := console.Table{Heading: []string{"DESTINATION", "PROTOCOL", "ALLOWED", "ADDRESSES"}}
		t.Add(p.Test.Destination, p.Test.Protocol, strconv.FormatBool(p.Test.Allowed),
			strings.Join(p.Test.Addresses, " "))
		err = t.Write(a.Stdout)
		a.Say("%s", console.Printable(p.Test.Reason))
	}
	if err == nil && !p.Test.Allowed {
		return console.ExitError(1)
	}
	return err
}
