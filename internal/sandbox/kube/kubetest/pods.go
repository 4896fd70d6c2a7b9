package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// pod is one pod and what runs in it. Cluster.mu guards it.
type pod struct {
	is     rest.Pod
	guest  *http.Server
	code   chan int // takes how the first process ends, once
	ended  bool
	frozen bool
	said   string // why it waits
}

// end is the end of the first process. The caller holds Cluster.mu.
func (p *pod) end(code int) {
	if !p.ended {
		p.ended = true
		p.code <- code
	}
}

func (c *Cluster) createPod(w http.ResponseWriter, r *http.Request) {
	p := &pod{code: make(chan int, 1)}
	if err := json.NewDecoder(r.Body).Decode(&p.is); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	name := p.is.Metadata.Name
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[name] != nil {
		refuse(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("pods %q already exists", name))
		return
	}
	p.is.Metadata.UID = fmt.Sprintf("uid-%d", c.version)
	p.is.Metadata.CreationTimestamp = now()
	p.is.Status = rest.PodStatus{Phase: rest.Pending}
	c.pods[name] = p
	c.tell("ADDED", p)
	c.work.Go(func() { c.node(p) })
	answer(w, http.StatusCreated, p.is)
}

// NoImageVolumes has the API server drop volumes of images, as one does without their feature gate.
func (c *Cluster) NoImageVolumes() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noVolume = true
}

// tryPod answers with the pod that would be made.
func (c *Cluster) tryPod(w http.ResponseWriter, r *http.Request) {
	var p rest.Pod
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noVolume {
		p.Spec.Volumes = slices.DeleteFunc(p.Spec.Volumes, func(v rest.Volume) bool {
			return v.Image != nil
		})
	}
	answer(w, http.StatusCreated, p)
}

func (c *Cluster) getPod(w http.ResponseWriter, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pods[name]; p != nil {
		answer(w, http.StatusOK, p.is)
		return
	}
	refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", name))
}

func (c *Cluster) deletePod(w http.ResponseWriter, r *http.Request, name string) {
	var options struct {
		Grace         *int64 `json:"gracePeriodSeconds"`
		Preconditions struct {
			UID string `json:"uid"`
		} `json:"preconditions"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || len(body) > 0 && json.Unmarshal(body, &options) != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", "options")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pods[name]
	switch {
	case p == nil:
		refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("pods %q not found", name))
		return
	case options.Preconditions.UID != "" && options.Preconditions.UID != p.is.Metadata.UID:
		refuse(w, http.StatusConflict, "Conflict", "the UID in the precondition does not match")
		return
	}
	grace := int64(30)
	if own := p.is.Spec.TerminationGracePeriodSeconds; own != nil {
		grace = *own
	}
	if options.Grace != nil {
		grace = *options.Grace
	}
	first := p.is.Metadata.DeletionTimestamp == nil
	p.is.Metadata.DeletionTimestamp = now()
	c.tell("MODIFIED", p)
	answer(w, http.StatusOK, p.is)
	switch {
	case grace == 0:
		p.end(137)
		c.remove(p)
	case p.frozen:
	case p.guest == nil || p.ended: // nothing runs
		p.end(137)
		c.remove(p)
	case value(p.is.Spec.Containers[0].Env, "GUEST_SIGNALS") != "deaf":
		p.end(143)
	case first || options.Grace != nil:
		c.work.Go(func() {
			timer := time.NewTimer(time.Duration(grace) * time.Second)
			defer timer.Stop()
			<-timer.C
			c.mu.Lock()
			defer c.mu.Unlock()
			p.end(137)
		})
	}
}

// remove takes a pod away, and what it owns. The caller holds mu.
func (c *Cluster) remove(p *pod) {
	name := p.is.Metadata.Name
	if c.pods[name] != p {
		return
	}
	delete(c.pods, name)
	for key, s := range c.secrets {
		for _, owner := range s.Metadata.OwnerReferences {
			if owner.UID == p.is.Metadata.UID {
				delete(c.secrets, key)
			}
		}
	}
	c.tell("DELETED", p)
}

func value(env []rest.EnvVar, name string) string {
	for _, v := range env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// node runs a pod from its scheduling to its end, as a kubelet does.
func (c *Cluster) node(p *pod) {
	if !c.schedule(p) {
		return
	}
	server, listener, ok := c.begin(p)
	if !ok {
		return
	}
	if server != nil {
		c.work.Go(func() { _ = server.Serve(listener) }) // the error is that of its end
	}
	code := <-p.code
	if server != nil {
		_ = server.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.is.Status.Phase = rest.Failed
	end := &rest.Terminated{ExitCode: code, Reason: "Error"}
	switch program := p.is.Spec.Containers[0].Command; {
	case code == 0:
		p.is.Status.Phase, end.Reason = rest.Succeeded, "Completed"
	case code == noProgram && len(program) > 0:
		end.Reason, end.Message = "StartError", fmt.Sprintf("exec: %q: stat %s: no such file or "+
			"directory", program[0], program[0])
	}
	p.is.Status.ContainerStatuses = []rest.ContainerStatus{{
		Name: p.is.Spec.Containers[0].Name, State: rest.ContainerState{Terminated: end}}}
	if c.pods[p.is.Metadata.Name] != p {
		return
	}
	c.tell("MODIFIED", p)
	if p.is.Metadata.DeletionTimestamp != nil {
		c.remove(p)
	}
}

// schedule waits until there is room and the pod's image and Secrets are there.
func (c *Cluster) schedule(p *pod) bool {
	for {
		c.mu.Lock()
		news, container := c.news, &p.is.Spec.Containers[0]
		if p.ended || c.closed || c.pods[p.is.Metadata.Name] != p {
			c.mu.Unlock()
			return false
		}
		condition := rest.Condition{Type: "PodScheduled", Status: "True"}
		var waits *rest.Waiting
		switch {
		case c.full != "":
			condition = rest.Condition{Type: "PodScheduled", Status: "False",
				Reason: "Unschedulable", Message: c.full}
		case c.images[container.Image]:
			waits = &rest.Waiting{Reason: "ErrImagePull", Message: "manifest unknown"}
		case c.lacks(p):
			waits = &rest.Waiting{Reason: "CreateContainerConfigError",
				Message: "secret not found"}
		default:
			c.mu.Unlock()
			return true
		}
		p.is.Status.Conditions = []rest.Condition{condition}
		p.is.Status.ContainerStatuses = []rest.ContainerStatus{{Name: container.Name,
			State: rest.ContainerState{Waiting: waits}}}
		if said := fmt.Sprint(condition, waits); said != p.said {
			p.said = said
			c.tell("MODIFIED", p)
			news = c.news
		}
		c.mu.Unlock()
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// lacks reports whether a Secret that the pod names is not there. The caller holds mu.
func (c *Cluster) lacks(p *pod) bool {
	for _, v := range p.is.Spec.Containers[0].Env {
		if v.ValueFrom != nil && c.secrets[v.ValueFrom.SecretKeyRef.Name] == nil {
			return true
		}
	}
	return slices.ContainsFunc(p.is.Spec.ImagePullSecrets, func(r rest.LocalReference) bool {
		return c.secrets[r.Name] == nil
	})
}

// noProgram is the exit code of a container whose program is not in its image.
const noProgram = 128

// guestPort is where what runs in a pod listens.
const guestPort = "8080"

// begin starts what runs in a pod, on an address of its own.
func (c *Cluster) begin(p *pod) (*http.Server, net.Listener, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.ended || c.closed {
		return nil, nil, false
	}
	c.next++
	p.is.Status.Phase = rest.Running
	p.is.Spec.NodeName = "node-1"
	p.is.Status.PodIP = fmt.Sprintf("127.66.%d.%d", c.next/250, c.next%250+1)
	p.is.Status.ContainerStatuses = []rest.ContainerStatus{{Name: p.is.Spec.Containers[0].Name,
		Ready: true, State: rest.ContainerState{Running: &struct{}{}}}}
	var listener net.Listener
	if args := p.is.Spec.Containers[0].Args; len(args) > 0 && args[0] == "reach" {
		c.reach(p, args)
	} else if command := p.is.Spec.Containers[0].Command; len(command) > 0 &&
		command[0] != "/guest" {
		p.end(noProgram)
	} else if len(command) > 1 && command[1] == "exit" {
		code, _ := strconv.Atoi(command[2]) // a test's own
		p.end(code)
	} else {
		var lc net.ListenConfig
		var err error
		listener, err = lc.Listen(context.Background(), "tcp",
			net.JoinHostPort(p.is.Status.PodIP, guestPort))
		if err != nil {
			panic(err) // a machine without 127.0.0.0/8
		}
		p.guest = &http.Server{Handler: c.handler(p), ErrorLog: log.New(io.Discard, "", 0)}
	}
	c.tell("MODIFIED", p)
	return p.guest, listener, true
}

// reach is the program with which the engine tries network policies. The caller holds mu.
func (c *Cluster) reach(p *pod, args []string) {
	if args[1] == "--listen" {
		return
	}
	if c.enforced && p.is.Metadata.Labels["sandpool/network"] == "none" {
		p.end(3)
		return
	}
	p.end(0)
}

// handler is the program in a sandbox.
func (c *Cluster) handler(p *pod) http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	m.HandleFunc("GET /self", func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		answer(w, http.StatusOK, c.self(p))
	})
	m.HandleFunc("GET /exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code")) // a test's own
		c.mu.Lock()
		defer c.mu.Unlock()
		p.end(code)
	})
	return m
}

// self is what a process in the pod sees of itself. The caller holds mu.
func (c *Cluster) self(p *pod) sandboxtest.Self {
	name, container := p.is.Metadata.Name, p.is.Spec.Containers[0]
	s := sandboxtest.Self{
		UID: uint32(*p.is.Spec.SecurityContext.RunAsUser),
		GID: uint32(*p.is.Spec.SecurityContext.RunAsGroup),
		Dir: container.WorkingDir, Hostname: name, HostnameFile: name + "\n",
		Hosts: "127.0.0.1 localhost\n" + p.is.Status.PodIP + " " + name + "\n",
	}
	for _, g := range p.is.Spec.SecurityContext.SupplementalGroups {
		s.Groups = append(s.Groups, uint32(g))
	}
	for _, name := range container.SecurityContext.Capabilities.Add {
		s.Bounding = append(s.Bounding, "CAP_"+name)
	}
	if s.UID == 0 {
		s.Effective = s.Bounding
	}
	for _, v := range container.Env {
		text := strings.ReplaceAll(v.Value, "$$(", "$(")
		if v.ValueFrom != nil {
			ref := v.ValueFrom.SecretKeyRef
			text = c.secrets[ref.Name].StringData[ref.Key]
		}
		s.Env = append(s.Env, v.Name+"="+text)
	}
	s.Resolv = "# the node's\n"
	if d := p.is.Spec.DNSConfig; d != nil {
		s.Resolv = "nameserver " + strings.Join(d.Nameservers, "\nnameserver ") + "\n"
	}
	return s
}

// exec knows one program, "/guest exit CODE".
func (c *Cluster) exec(w http.ResponseWriter, r *http.Request, name string) {
	c.mu.Lock()
	p := c.pods[name]
	runs := p != nil && p.is.Status.Phase == rest.Running
	c.mu.Unlock()
	if !runs {
		refuse(w, http.StatusNotFound, "NotFound", "the container does not run")
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{"v4.channel.k8s.io"}})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = conn.CloseNow() }()
	args := r.URL.Query()["command"]
	status := rest.Status{Status: "Success"}
	switch {
	case len(args) != 3 || args[0] != "/guest" || args[1] != "exit":
		status = rest.Status{Status: "Failure", Reason: "InternalError", Code: 500,
			Message: fmt.Sprintf("exec: %q: stat %s: no such file or directory", args, args[0])}
	case args[2] != "0":
		status = rest.Status{Status: "Failure", Reason: "NonZeroExitCode",
			Details: &rest.StatusDetails{Causes: []rest.StatusCause{{Reason: "ExitCode",
				Message: args[2]}}}}
	}
	body, err := json.Marshal(status)
	if err != nil {
		panic(err) // a Status is plain data
	}
	if conn.Write(r.Context(), websocket.MessageBinary, []byte("\x01code\n")) == nil {
		_ = conn.Write(r.Context(), websocket.MessageBinary, append([]byte{3}, body...))
		_ = conn.Close(websocket.StatusNormalClosure, "")
	}
}

// Ask asks the program in a pod, at its address.
func Ask(ctx context.Context, dial func(ctx context.Context) (net.Conn, error), path string,
	query url.Values) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}}
	target := "http://sandbox" + path + "?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
