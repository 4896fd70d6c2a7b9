package kube

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
	"github.com/sandpool/sandpool/internal/sandbox/probe"
)

// prepared is the engine's own part of sandbox.Prepared.
type prepared struct {
	engine *Engine
	user   passwd.Identity
}

// handle is what Handle.Data holds.
type handle struct {
	Version int    `json:"v"`
	Engine  string `json:"engine"`
	UID     string `json:"uid"` // the pod's
	// Namespace is empty in what servers wrote that had one alone.
	Namespace string `json:"namespace,omitempty"`
}

// Prepare implements sandbox.Runtime. Nothing is made for a template but its network policy.
func (e *Engine) Prepare(ctx context.Context, t sandbox.Template,
	progress func(sandbox.Progress)) (sandbox.Prepared, error) {
	if ctx.Err() != nil {
		return sandbox.Prepared{}, context.Cause(ctx)
	}
	began := time.Now()
	if err := errors.Join(checkTemplate(t), e.cfg.checkLayers(t.Layers)); err != nil {
		return sandbox.Prepared{}, err
	}
	user, err := e.userOf(ctx, t)
	if err == nil {
		err = e.checkUser(t, user)
	}
	if err != nil {
		return sandbox.Prepared{}, err
	}
	namespace := e.cfg.Namespaces.Of(t.Pool, e.cfg.Namespace)
	if err := e.permit(ctx, namespace, t.Network); err != nil {
		return sandbox.Prepared{}, err
	}
	key, err := e.cfg.keyOf(t, user)
	if err != nil {
		return sandbox.Prepared{}, err
	}
	if e.cfg.PullTool != "" {
		own := e.cfg.pull(namespace, t)
		e.pull.Start(own.key, own.daemon, own.secret)
	}
	if progress != nil {
		progress(sandbox.Progress{Step: "done", Elapsed: time.Since(began)})
	}
	return sandbox.Prepared{Key: key, Template: t, Engine: &prepared{engine: e, user: user}}, nil
}

// Start implements sandbox.Runtime.
func (e *Engine) Start(ctx context.Context, id sandbox.ID, p sandbox.Prepared) (_ sandbox.Handle,
	err error) {
	own, ok := p.Engine.(*prepared)
	if !ok || own.engine != e {
		return sandbox.Handle{}, errForeign
	}
	if ctx.Err() != nil {
		return sandbox.Handle{}, context.Cause(ctx)
	}
	t := p.Template
	namespace := e.cfg.Namespaces.Of(t.Pool, e.cfg.Namespace)
	if err := e.permit(ctx, namespace, t.Network); err != nil {
		return sandbox.Handle{}, err
	}
	release, err := e.ids.Take(ctx, id)
	if err != nil {
		return sandbox.Handle{}, err
	}
	defer release()
	ctx, done := e.begin(ctx, id)
	defer done()
	watch := sandbox.NewStopwatch()
	pod := e.cfg.pod(id, t, own.user)
	mark := rand.Text()
	if pod.Metadata.Annotations == nil {
		pod.Metadata.Annotations = map[string]string{}
	}
	pod.Metadata.Annotations[annotationStart] = mark
	creating, created := outlasting(ctx, createTime)
	made, err := e.create(creating, pod)
	created()
	if err != nil {
		// What became of a call that was cut off is open.
		if rest.CodeOf(err) == 0 {
			err = errors.Join(err, e.undo(ctx, id, namespace, mark))
		}
		return sandbox.Handle{}, err
	}
	e.pods.put(made)
	err = e.equip(ctx, id, t, made)
	watch.Lap("create")
	if err == nil {
		err = e.awaitRunning(ctx, id)
		watch.Lap("run")
	}
	if err == nil {
		err = e.awaitReady(ctx, id, t)
		watch.Lap("ready")
	}
	if err != nil {
		err = e.explain(ctx, id, t, err)
		return sandbox.Handle{}, errors.Join(err, e.undo(ctx, id, namespace, mark))
	}
	data, err := json.Marshal(handle{Version: 1, Engine: "kubernetes", UID: made.Metadata.UID,
		Namespace: namespace})
	return sandbox.Handle{ID: id, Data: data, Steps: watch.Steps()}, err
}

// createTime is how long an answer to the creation of a pod is waited for when nobody wants the pod
// any more. A call that is cut off may be carried out after one has looked what became of it.
const createTime = 5 * time.Second

// outlasting is ctx, but ends later by some time.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(by)
		defer late.Stop()
		select {
		case <-late.C:
			cancel(context.Cause(ctx))
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		cancel(nil)
	}
}

// begin lets a Stop cut a Start short.
func (e *Engine) begin(ctx context.Context, id sandbox.ID) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	e.mu.Lock()
	e.starting[id] = cancel
	e.mu.Unlock()
	return ctx, func() {
		e.mu.Lock()
		delete(e.starting, id)
		e.mu.Unlock()
		cancel(nil)
	}
}

// retryFull is when trying again makes sense after the cluster had no room.
const retryFull = 10 * time.Second

// create makes the pod, and words the refusals that users meet.
func (e *Engine) create(ctx context.Context, pod *rest.Pod) (*rest.Pod, error) {
	// The API server knows of those in the pod's namespace.
	if p := e.pods.peek(idOf(pod)); p != nil && p.Metadata.Namespace != pod.Metadata.Namespace {
		return nil, existsAlready(idOf(pod), nil)
	}
	made, err := e.cfg.Client.CreatePod(ctx, pod)
	var refused *rest.StatusError
	switch {
	case err == nil:
		return made, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("create the pod: %w", context.Cause(ctx))
	case !errors.As(err, &refused):
		return nil, &sandpool.Error{Class: sandpool.Unavailable, Code: "ClusterUnreachable",
			Message: "The cluster's API server does not answer; try again.", Err: err}
	case refused.Status.Reason == "AlreadyExists":
		return nil, existsAlready(idOf(pod), err)
	case refused.Status.Code == http.StatusForbidden &&
		strings.Contains(refused.Status.Message, "exceeded quota"):
		return nil, &sandpool.Error{Class: sandpool.Unavailable, Code: "ClusterFull",
			Message:    "The cluster's quota for sandboxes is used up; try again later.",
			RetryAfter: retryFull, Err: err}
	case refused.Status.Code == http.StatusTooManyRequests || refused.Status.Code >= 500:
		return nil, &sandpool.Error{Class: sandpool.Unavailable, Code: "ClusterBusy",
			Message:    "The cluster's API server is busy; try again.",
			RetryAfter: max(time.Second, refused.RetryAfter), Err: err}
	}
	return nil, fmt.Errorf("create the pod: %w", err)
}

func existsAlready(id sandbox.ID, err error) error {
	return &sandpool.Error{Class: sandpool.Conflict, Target: "id",
		Message: fmt.Sprintf("The sandbox %q exists already.", id), Err: err}
}

// equip makes the Secrets of a sandbox. The kubelet waits for them.
func (e *Engine) equip(ctx context.Context, id sandbox.ID, t sandbox.Template,
	pod *rest.Pod) error {
	for _, s := range e.cfg.secrets(id, t, pod) {
		if err := e.cfg.Client.CreateSecret(ctx, s); err != nil {
			return fmt.Errorf("create Secret %q: %w", s.Metadata.Name, err)
		}
	}
	return nil
}

// stuck are reasons for which a container waits that do not pass by themselves soon.
func stuck(reason string) bool {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
		"ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
		"CreateContainerError", "RunContainerError":
		return true
	}
	return false
}

// awaitRunning waits until the container runs and the pod has an address.
func (e *Engine) awaitRunning(ctx context.Context, id sandbox.ID) error {
	full := time.NewTimer(e.cfg.Pending)
	defer full.Stop()
	var late <-chan time.Time
	for {
		p, changed := e.pods.get(id)
		if _, over := exitOf(p); over || runs(p) {
			return nil // what it means is awaitReady's to say
		}
		if w := waiting(p); w != nil && stuck(w.Reason) {
			return imageError(w)
		}
		late = nil
		if c := conditionOf(p, "PodScheduled"); c.Status == "False" {
			late = full.C
		}
		select {
		case <-changed:
		case <-late:
			return &sandpool.Error{Class: sandpool.Unavailable, Code: "ClusterFull",
				Message:    "The cluster has no room for another sandbox; try again later.",
				RetryAfter: retryFull,
				Err: fmt.Errorf("the pod was not scheduled within %v: %s", e.cfg.Pending,
					conditionOf(p, "PodScheduled").Message)}
		case <-ctx.Done():
			return fmt.Errorf("%w; the pod is %s", context.Cause(ctx), describe(p))
		}
	}
}

// imageError is the error of a container that cannot be made.
func imageError(w *rest.Waiting) error {
	err := fmt.Errorf("%s: %s", w.Reason, w.Message)
	if strings.Contains(w.Reason, "Container") {
		return containerError(w.Message, err)
	}
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "ImageNotPulled", Target: "image",
		Message: fmt.Sprintf("The cluster's nodes cannot pull the image: %.300s", w.Message),
		Err:     err}
}

// containerError is the error of a container whose first program does not start.
func containerError(why string, err error) error {
	return &sandpool.Error{Class: sandpool.Invalid, Code: "ContainerNotStarted",
		Message: fmt.Sprintf("The container cannot be started: %.300s", why), Err: err}
}

// describe says in a few words what a pod waits for.
func describe(p *rest.Pod) string {
	if p == nil {
		return "gone"
	}
	s := strings.ToLower(p.Status.Phase)
	if c := conditionOf(p, "PodScheduled"); c.Status == "False" {
		return fmt.Sprintf("%s: %s: %s", s, c.Reason, c.Message)
	}
	if w := waiting(p); w != nil {
		return fmt.Sprintf("%s: %s %s", s, w.Reason, w.Message)
	}
	return s
}

// The time before the second attempt of a readiness check, and the longest between two.
const (
	firstCheckWait = 10 * time.Millisecond
	lastCheckWait  = 500 * time.Millisecond
)

// awaitReady asks the sandbox until its check passes, it ends, or its time is over.
func (e *Engine) awaitReady(ctx context.Context, id sandbox.ID, t sandbox.Template) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.BootTimeout(), errNotReady)
	defer cancel()
	check := t.Ready.WithDefaults()
	asker := probe.New(check,
		func(ctx context.Context, port int) (net.Conn, error) {
			return e.Dial(ctx, sandbox.Handle{ID: id}, port)
		},
		func(ctx context.Context, args []string) error {
			code, output, err := e.exec(ctx, id, args)
			if err == nil && code != 0 {
				err = fmt.Errorf("it exits with %d: %.200q", code, output)
			}
			return err
		})
	defer asker.Close()
	wait, next, passes := check.Delay, firstCheckWait, 0
	last := errors.New("none was made")
	for {
		p, changed := e.pods.get(id)
		if why, ok := notStarted(p); ok {
			return containerError(why, errors.New(describe(p)))
		}
		if exit, over := e.pods.exit(id, p); over {
			return &sandpool.Error{Class: sandpool.Ended, Code: "SandboxExited",
				Message: fmt.Sprintf("Its first process ended before it was ready: %s, code %d.",
					exit.Reason, exit.Code), Err: errors.New(describe(p))}
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
			timer.Stop()
			continue
		case <-ctx.Done():
			timer.Stop()
			if cause := context.Cause(ctx); !errors.Is(cause, errNotReady) {
				return fmt.Errorf("%w; the last readiness check: %w", cause, last)
			}
			return &sandpool.Error{Class: sandpool.Unavailable, Code: "SandboxNotReady",
				Message: "It did not pass its readiness check in time.",
				Err:     fmt.Errorf("the last attempt: %w", last)}
		case <-timer.C:
		}
		if last = asker.Once(ctx); last == nil {
			if passes++; passes >= check.Successes {
				return nil
			}
		} else {
			passes = 0
		}
		wait, next = next, min(2*next, lastCheckWait, check.Period)
	}
}

// errNotReady ends the wait for a sandbox that runs and does not get ready.
var errNotReady = errors.New("the sandbox is not ready in its time")

// explain adds to err what a sandbox wrote that did not get ready, for its template's owner.
func (e *Engine) explain(ctx context.Context, id sandbox.ID, t sandbox.Template, err error) error {
	var known *sandpool.Error
	if ctx.Err() != nil || !errors.As(err, &known) ||
		known.Code != "SandboxExited" && known.Code != "SandboxNotReady" {
		return err
	}
	const lines = 20
	p := e.pods.peek(id)
	if p == nil {
		return err
	}
	text, logErr := e.cfg.Client.LogTail(ctx, p.Metadata.Namespace, podName(id), lines)
	if logErr != nil || text == "" {
		return err // why there is no log helps nobody
	}
	// A page of a log has lines of its own form, which this makes of the text.
	var page strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&page, "- stdout F %s\n", strings.TrimSuffix(line, "\n"))
	}
	tail := sandbox.LogPage{Lines: []byte(page.String())}.Tail(t, 4<<10)
	return sandbox.Saying(known, tail, err)
}
