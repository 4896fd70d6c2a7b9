package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	// retry is how long renew waits at most before it asks again for what it did not get.
	// Authorities count failures: Let's Encrypt takes five an hour.
	retry = 15 * time.Minute
	// shortest is the least that it waits, whatever certificates live.
	shortest = time.Minute
	// longest bounds how long an authority may have it wait.
	longest = 6 * time.Hour
	// orderTime bounds what one certificate may take.
	orderTime = 5 * time.Minute
	// accountKey is the file of the account's key, beside those of the hosts. No host has a plus.
	accountKey = "acme_account+key"
)

// due is when a certificate is renewed: when a third of its life is left, or 30 days.
func due(leaf *x509.Certificate) time.Time {
	return leaf.NotAfter.Add(-min(leaf.NotAfter.Sub(leaf.NotBefore)/3, renewBefore))
}

// pause is how long to wait after a failure: less if certificates live for hours, so that there
// are some attempts before the end, and as long as the authority says if it says so.
func pause(held *tls.Certificate, err error) time.Duration {
	wait := retry
	if held != nil {
		wait = min(wait, held.Leaf.NotAfter.Sub(held.Leaf.NotBefore)/12)
	}
	var refused *acme.Error
	if errors.As(err, &refused) {
		if asked, ok := acme.RateLimit(refused); ok {
			wait = max(wait, min(asked, longest))
		}
	}
	return max(wait, shortest)
}

// renew asks for what is due, one host after the other, until ctx ends.
func (i *Issued) renew(ctx context.Context) {
	for {
		wait := 24 * time.Hour // a clock that jumps is seen by then
		for _, host := range i.a.Hosts {
			h := i.hosts[host]
			if !i.now().Before(h.next) {
				i.ask(ctx, host, h)
			}
			if ctx.Err() != nil {
				return
			}
			wait = min(wait, h.next.Sub(i.now()))
		}
		select {
		case <-i.after(max(wait, shortest)):
		case <-ctx.Done():
			return
		}
	}
}

// ask gets a certificate for a host. Without one, what there is stays. Only renew calls it, which
// is why it reads what it alone writes without a lock.
func (i *Issued) ask(ctx context.Context, host string, h *held) {
	cert, err := i.obtain(ctx, host)
	if ctx.Err() != nil {
		return
	}
	defer h.once.Do(func() { close(h.tried) })
	i.mu.Lock()
	if err == nil {
		h.cert, h.next = cert, due(cert.Leaf)
	} else {
		h.failures++
		h.next = i.now().Add(pause(h.cert, err))
	}
	i.mu.Unlock()
	again := h.next.UTC().Format(time.RFC3339)
	switch {
	case err == nil:
		i.log.Info("there is a certificate", "host", host, "ends", end(cert), "renewed", again)
	case h.cert == nil:
		i.log.Error("there is no certificate for a host; it is asked for again", "host", host,
			"directory", i.a.Directory, "again", again, "error", err)
	case i.now().After(h.cert.Leaf.NotAfter):
		i.log.Error("a certificate has ended and was not renewed; callers refuse it; it is asked "+
			"for again", "host", host, "ended", end(h.cert), "directory", i.a.Directory,
			"again", again, "error", err)
	default:
		i.log.Error("a certificate was not renewed; the one that there is serves on; it is asked "+
			"for again", "host", host, "ends", end(h.cert), "directory", i.a.Directory,
			"again", again, "error", err)
	}
}

func end(c *tls.Certificate) string { return c.Leaf.NotAfter.UTC().Format(time.RFC3339) }

// obtain gets a certificate for a host by the first challenge that leads to one, and keeps it.
func (i *Issued) obtain(ctx context.Context, host string) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTime)
	defer cancel()
	client, err := i.account(ctx)
	if err != nil {
		return nil, err
	}
	ways := []string{"tls-alpn-01"}
	if i.plain != nil {
		ways = append(ways, "http-01")
	}
	var failed []error
	for _, way := range ways {
		text, err := i.order(ctx, client, host, way)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", way, err))
			continue
		}
		cert, err := parse(host, text)
		if err != nil {
			return nil, err
		}
		if !i.now().Before(cert.Leaf.NotAfter) {
			return nil, fmt.Errorf("the authority gave a certificate that has ended, %s", end(cert))
		}
		if err := i.kept.Put(ctx, host, text); err != nil {
			// It is served all the same; the next start asks for another one.
			i.log.Error("a certificate is not kept", "host", host, "error", err)
		}
		return cert, nil
	}
	return nil, errors.Join(failed...)
}

// account is a client with the account of this server, which is made if there is none. Each
// attempt has a client of its own: the authority may have moved, or lost its accounts.
func (i *Issued) account(ctx context.Context) (*acme.Client, error) {
	key, err := i.accountKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("the account's key: %w", err)
	}
	client := &acme.Client{DirectoryURL: i.a.Directory, UserAgent: "sandpool", Key: key,
		HTTPClient: i.client, RetryBackoff: backoff}
	account := &acme.Account{}
	if i.a.Email != "" {
		account.Contact = []string{"mailto:" + i.a.Email}
	}
	_, err = client.Register(ctx, account, acme.AcceptTOS)
	if err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, fmt.Errorf("the account: %w", err)
	}
	return client, nil
}

// backoff tries again what may have been bad luck, and leaves the rest to the next attempt.
func backoff(n int, _ *http.Request, resp *http.Response) time.Duration {
	if n > 4 || resp != nil && resp.StatusCode == http.StatusTooManyRequests {
		return -1
	}
	return time.Duration(n) * time.Second
}

func (i *Issued) accountKey(ctx context.Context) (*ecdsa.PrivateKey, error) {
	text, err := i.kept.Get(ctx, accountKey)
	if err == nil {
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%q holds no PEM; remove it and a new account is made",
				accountKey)
		}
		return x509.ParseECPrivateKey(block.Bytes)
	}
	if !errors.Is(err, autocert.ErrCacheMiss) {
		return nil, err
	}
	key, text, err := newKey()
	if err != nil {
		return nil, err
	}
	return key, i.kept.Put(ctx, accountKey, text)
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// order shows the authority by a kind of challenge that host is this server's, and returns a new
// key and the chain of its certificate, in PEM.
func (i *Issued) order(ctx context.Context, client *acme.Client, host, way string) ([]byte, error) {
	o, err := client.AuthorizeOrder(ctx, acme.DomainIDs(host))
	if err != nil {
		return nil, err
	}
	for _, u := range o.AuthzURLs {
		z, err := client.GetAuthorization(ctx, u)
		if err != nil {
			return nil, err
		}
		if z.Status == acme.StatusValid {
			continue
		}
		if err := i.prove(ctx, client, host, way, z); err != nil {
			return nil, err
		}
	}
	if o, err = client.WaitOrder(ctx, o.URI); err != nil {
		return nil, err
	}
	key, text, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{DNSNames: []string{host}}, key)
	if err != nil {
		return nil, err
	}
	chain, _, err := client.CreateCertFromOrder(ctx, o, csr, true)
	if err != nil {
		return nil, err
	}
	for _, der := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text, nil
}

// prove answers a challenge for as long as the authority looks.
func (i *Issued) prove(ctx context.Context, client *acme.Client, host, way string,
	z *acme.Authorization) error {
	var challenge *acme.Challenge
	for _, c := range z.Challenges {
		if c.Type == way {
			challenge = c
		}
	}
	if challenge == nil {
		return errors.New("the authority does not offer this challenge")
	}
	undo, err := i.show(client, host, challenge)
	if err != nil {
		return err
	}
	defer undo()
	if _, err := client.Accept(ctx, challenge); err != nil {
		return err
	}
	_, err = client.WaitAuthorization(ctx, z.URI)
	return err
}

// show puts the answer to a challenge where the authority looks, until undo is called.
func (i *Issued) show(client *acme.Client, host string, c *acme.Challenge) (undo func(), _ error) {
	if c.Type == "tls-alpn-01" {
		proof, err := client.TLSALPN01ChallengeCert(c.Token, host)
		if err != nil {
			return nil, err
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		i.proofs[host] = &proof
		return func() {
			i.mu.Lock()
			defer i.mu.Unlock()
			delete(i.proofs, host)
		}, nil
	}
	answer, err := client.HTTP01ChallengeResponse(c.Token)
	if err != nil {
		return nil, err
	}
	path := client.HTTP01ChallengePath(c.Token)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tokens[path] = answer
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.tokens, path)
	}, nil
}

// load is the certificate that was kept for a host, nil if there is none.
func (i *Issued) load(ctx context.Context, host string) (*tls.Certificate, error) {
	text, err := i.kept.Get(ctx, host)
	if errors.Is(err, autocert.ErrCacheMiss) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parse(host, text)
}

// parse reads a key and its chain, which must be for host.
func parse(host string, text []byte) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, err
	}
	if err := cert.Leaf.VerifyHostname(host); err != nil {
		return nil, err
	}
	return &cert, nil
}
