// Package pull has the nodes of a cluster pull images before sandboxes need them.
//
// The images of a template are pulled by a DaemonSet, whose pods start our own program in a
// container of each image and run nothing of it. Once each node has been through that, or its time
// is over, the DaemonSet is removed: a node keeps what it has pulled until its disk is short.
package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// How long nodes may take to pull the images of one template, how many templates are pulled at a
// time, and how often it is asked how far they are.
const (
	longest = 10 * time.Minute
	atOnce  = 2
	every   = 2 * time.Second
	undo    = 30 * time.Second
)

// Puller follows the DaemonSets of one server.
type Puller struct {
	client *rest.Client
	log    *slog.Logger
	end    context.CancelFunc
	life   context.Context // of the jobs; see New
	slots  chan struct{}
	work   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	known map[string]Progress
}

// Progress is how many nodes of those that sandboxes may be on have the images. Over says that it
// does not go on.
type Progress struct {
	Have, Of int
	Over     bool
	Err      error
}

// New returns a Puller. Close ends it.
func New(ctx context.Context, client *rest.Client, log *slog.Logger) *Puller {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	return &Puller{client: client, log: log, end: end, life: life,
		slots: make(chan struct{}, atOnce), known: map[string]Progress{}}
}

// Close ends the following. A DaemonSet that is under way is left to the next server: its name is
// that of the images.
func (p *Puller) Close() {
	p.end()
	p.work.Wait()
}

// Progress says how far the images of a key are, if they were asked for.
func (p *Puller) Progress(key string) (Progress, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ok := p.known[key]
	return now, ok
}

func (p *Puller) set(key string, now Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[key] = now
}

// Start has nodes pull what the DaemonSet names, unless that was done already. secret is with what
// they pull it, or nil; it goes with the DaemonSet.
func (p *Puller) Start(key string, d *rest.DaemonSet, secret *rest.Secret) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, ok := p.known[key]; ok && (!now.Over || now.Err == nil) || p.life.Err() != nil {
		return
	}
	p.known[key] = Progress{}
	p.work.Go(func() {
		select {
		case p.slots <- struct{}{}:
			defer func() { <-p.slots }()
		case <-p.life.Done():
			return
		}
		ctx, cancel := context.WithTimeoutCause(p.life, longest,
			fmt.Errorf("nodes have not pulled the images within %v", longest))
		defer cancel()
		now, err := p.follow(ctx, key, d, secret)
		if p.life.Err() != nil {
			return
		}
		now.Over, now.Err = true, errors.Join(err, p.remove(d.Metadata))
		p.set(key, now)
		if now.Err != nil {
			p.log.Warn("images are not on all nodes before sandboxes need them", "have", now.Have,
				"of", now.Of, "error", now.Err)
		}
	})
}

// follow makes the DaemonSet and looks at it until all nodes have the images.
func (p *Puller) follow(ctx context.Context, key string, d *rest.DaemonSet,
	secret *rest.Secret) (now Progress, err error) {
	made, err := p.client.CreateDaemonSet(ctx, d)
	if rest.CodeOf(err) == http.StatusConflict { // an earlier server's, or that of another one
		made, err = p.client.DaemonSet(ctx, d.Metadata.Namespace, d.Metadata.Name)
	}
	if err != nil {
		return now, err
	}
	if secret != nil {
		secret.Metadata.OwnerReferences = []rest.OwnerReference{{APIVersion: "apps/v1",
			Kind: "DaemonSet", Name: made.Metadata.Name, UID: made.Metadata.UID}}
		err := p.client.CreateSecret(ctx, secret)
		if err != nil && rest.CodeOf(err) != http.StatusConflict {
			return now, err
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		seen, err := p.client.DaemonSet(ctx, d.Metadata.Namespace, d.Metadata.Name)
		switch {
		case rest.CodeOf(err) == http.StatusNotFound: // another server has seen it through
			return now, nil
		case err == nil:
			now.Have, now.Of = seen.Status.Ready, seen.Status.Desired
			p.set(key, now)
			if seen.Status.ObservedGeneration > 0 && now.Have >= now.Of {
				return now, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return now, errors.Join(context.Cause(ctx), err)
		}
	}
}

func (p *Puller) remove(m rest.Meta) error {
	ctx, cancel := context.WithTimeout(p.life, undo)
	defer cancel()
	err := p.client.DeleteDaemonSet(ctx, m.Namespace, m.Name)
	if rest.CodeOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// Sweep removes the DaemonSets that a selector finds in a namespace and that nobody follows any
// more, whose time is over.
func (p *Puller) Sweep(ctx context.Context, namespace, selector string) error {
	list, err := p.client.ListDaemonSets(ctx, namespace, selector)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range list {
		made := d.Metadata.CreationTimestamp
		if made != nil && time.Since(*made) > longest+undo {
			err := p.client.DeleteDaemonSet(ctx, namespace, d.Metadata.Name)
			if rest.CodeOf(err) != http.StatusNotFound {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
