package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// Stop implements sandbox.Runtime.
func (e *Engine) Stop(ctx context.Context, h sandbox.Handle) error {
	e.mu.Lock()
	e.stopping[h.ID]++
	if cut := e.starting[h.ID]; cut != nil {
		cut(errStopped)
	}
	e.mu.Unlock()
	err := e.stop(ctx, h)
	e.mu.Lock()
	if e.stopping[h.ID]--; e.stopping[h.ID] == 0 {
		delete(e.stopping, h.ID)
	}
	if err == nil {
		e.stopped.add(string(h.ID))
	}
	e.mu.Unlock()
	e.pods.forget(h.ID) // those who wait are told
	return err
}

func (e *Engine) stop(ctx context.Context, h sandbox.Handle) error {
	release, err := e.ids.Take(ctx, h.ID)
	if err != nil {
		return err
	}
	defer release()
	grace := int64(1) // none at all would have the API server forget a pod that still runs
	if len(h.Data) > 0 {
		grace = -1
	}
	for _, namespace := range e.whereabouts(h) {
		if err := e.remove(ctx, h.ID, namespace, "", grace); err != nil {
			return err
		}
	}
	return nil
}

// whereabouts are the namespaces in which a sandbox may have its pod: the one that is known, or,
// of one that nobody knows, all.
func (e *Engine) whereabouts(h sandbox.Handle) []string {
	var own handle
	if len(h.Data) > 0 && json.Unmarshal(h.Data, &own) == nil && own.Namespace != "" {
		return []string{own.Namespace}
	}
	if p := e.pods.peek(h.ID); p != nil {
		return []string{p.Metadata.Namespace}
	}
	return e.cfg.all()
}

// undoTime bounds the removal of what a failed Start has made.
const undoTime = 30 * time.Second

// undo removes the pod of a Start that failed, and no other of its ID.
func (e *Engine) undo(ctx context.Context, id sandbox.ID, namespace, mark string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	p, err := e.cfg.Client.Pod(ctx, namespace, podName(id))
	switch {
	case rest.CodeOf(err) == http.StatusNotFound:
		e.forget(id, namespace)
		return nil
	case err != nil:
		return fmt.Errorf("undo the start: %w", err)
	case p.Metadata.Annotations[annotationStart] != mark:
		return nil
	}
	return e.remove(ctx, id, namespace, p.Metadata.UID, 1)
}

// forget takes a pod out of the copy that the API server does not have in a namespace.
func (e *Engine) forget(id sandbox.ID, namespace string) {
	if p := e.pods.peek(id); p != nil && p.Metadata.Namespace == namespace {
		e.pods.drop(id, p)
	}
	e.pods.forget(id)
}

// lookEvery is how often the API server is asked for a pod that ends, beside the watch.
const lookEvery = 2 * time.Second

// remove ends a pod of a namespace and waits until nothing of it is left.
func (e *Engine) remove(ctx context.Context, id sandbox.ID, namespace, uid string,
	grace int64) error {
	name := podName(id)
	err := e.cfg.Client.DeletePod(ctx, namespace, name, uid, grace)
	switch rest.CodeOf(err) {
	case http.StatusNotFound, http.StatusConflict: // there is none, or one of another uid
		e.forget(id, namespace)
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete pod %q: %w", name, err)
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		p, changed := e.pods.get(id)
		if p == nil {
			e.pods.forget(id)
			// The copy may not have had it yet.
			_, err := e.cfg.Client.Pod(ctx, namespace, name)
			if rest.CodeOf(err) == http.StatusNotFound {
				return nil
			}
			_, changed = e.pods.get(id)
		}
		select {
		case <-changed:
		case <-tick.C:
			now, err := e.cfg.Client.Pod(ctx, namespace, name)
			if rest.CodeOf(err) == http.StatusNotFound {
				e.forget(id, namespace)
				return nil
			}
			if err == nil {
				e.pods.put(now)
			}
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the pod %q still ends: %w", name, context.Cause(ctx)),
				e.unanswered(id))
		}
	}
}

// unanswered says so if the node of a pod is away, which nobody but it can end for sure.
func (e *Engine) unanswered(id sandbox.ID) error {
	p := e.pods.peek(id)
	if p == nil || disruption(p) != sandbox.NodeLost {
		return nil
	}
	return fmt.Errorf("its node %q does not answer; it ends when the node is back, or when "+
		"somebody removes the node from the cluster", p.Spec.NodeName)
}

// stopState is how far a Stop is.
type stopState int

const (
	unstopped stopState = iota
	stopping
	stopped
)

func (e *Engine) stopOf(id sandbox.ID) stopState {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stopping[id] > 0:
		return stopping
	case e.stopped.has(string(id)):
		return stopped
	}
	return unstopped
}
