package web

import (
	"context"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// settings are the fields of the form of a pool, as text.
type settings struct {
	Name, Type, Image, Max, Ready, Cooldown, CPU, Memory, Port, Egress string
	// History is "on" or "off"; empty means that the form does not ask.
	History string
	// Parent and Group are where the API has the new pool, and Location is where it is to run.
	Parent, Group, Location string
}

// under completes settings with where the pool is to be.
func (s settings) under(a asked, location string) settings {
	id := a.api.PoolID("x")
	s.Parent, s.Group, s.Location = path.Dir(id.String()), id.ResourceGroup, location
	return s
}

func settingsOf(r *http.Request) settings {
	get := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	return settings{Name: get("name"), Type: get("type"), Image: get("image"),
		Max: get("max"), Ready: get("ready"), Cooldown: get("cooldown"), CPU: get("cpu"),
		Memory: get("memory"), Port: get("port"),
		Egress: get("egress"), History: get("history")}
}

func (w *Web) newPage(_ context.Context, a asked) (string, view, error) {
	return "new", view{Title: "New pool", Here: "new",
		Data: settings{Type: string(sandpool.PythonLTS), Max: "20", Ready: "3",
			Cooldown: "300", Egress: "EgressDisabled"}.under(a, w.location())}, nil
}

// whole reads a number of a form; an empty field is none.
func whole(field, text string) (*int, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil, sandpool.Errorf(sandpool.Invalid, "", field, "%s is %q; write a whole number.",
			field, text)
	}
	return &n, nil
}

// resource is the body that the form means. What the form leaves out the server decides.
func (s settings) resource() (p api.SessionPool, err error) {
	p = api.SessionPool{Properties: &api.SessionPoolProperties{
		ContainerType: s.Type}}
	props := p.Properties
	scale := &api.ScaleConfiguration{}
	var cooldown, port *int
	for _, each := range []struct {
		field, text string
		into        **int
	}{
		{"Most sessions", s.Max, &scale.MaxConcurrentSessions}, {"Ready sessions", s.Ready,
			&scale.ReadySessionInstances},
		{"Cooldown", s.Cooldown, &cooldown}, {"Target port", s.Port, &port},
	} {
		if *each.into, err = whole(each.field, each.text); err != nil {
			return p, err
		}
	}
	props.ScaleConfiguration = scale
	if cooldown != nil {
		props.DynamicPoolConfiguration = &api.DynamicPoolConfiguration{
			LifecycleConfiguration: &api.LifecycleConfiguration{LifecycleType: "Timed",
				CooldownPeriodInSeconds: cooldown}}
	}
	if s.Egress != "" {
		props.SessionNetworkConfiguration = &api.SessionNetworkConfiguration{Status: s.Egress}
	}
	if err := s.container(props, port); err != nil {
		return p, err
	}
	if s.History != "" && s.Type != string(sandpool.CustomContainer) {
		if props.Sandpool == nil {
			props.Sandpool = &api.SandpoolSettings{}
		}
		on := s.History == "on"
		props.Sandpool.History = &api.HistorySettings{Enabled: &on}
	}
	return p, nil
}

// container adds what a custom container or the size of a code session needs.
func (s settings) container(props *api.SessionPoolProperties, port *int) error {
	var cpu *float64
	if s.CPU != "" {
		n, err := strconv.ParseFloat(s.CPU, 64)
		if err != nil {
			return sandpool.Errorf(sandpool.Invalid, "", "cpu",
				"Cores are %q; write a number such as 0.5.", s.CPU)
		}
		cpu = &n
	}
	if s.Type != string(sandpool.CustomContainer) {
		if cpu != nil || s.Memory != "" {
			props.Sandpool = &api.SandpoolSettings{CPU: cpu, Memory: s.Memory}
		}
		return nil
	}
	props.CustomContainerTemplate = s.template(cpu, port)
	return nil
}

// template is the one container of a pool.
func (s settings) template(cpu *float64, port *int) *api.CustomContainerTemplate {
	t := &api.CustomContainerTemplate{Containers: []api.Container{{Image: s.Image, Name: "main"}}}
	if cpu != nil || s.Memory != "" {
		t.Containers[0].Resources = &api.ContainerResources{CPU: cpu, Memory: s.Memory}
	}
	if port != nil {
		t.Ingress = &api.Ingress{TargetPort: port}
	}
	return t
}

func (w *Web) create(ctx context.Context, a asked) (string, error) {
	s := settingsOf(a.Request)
	p, err := s.resource()
	if err != nil {
		return "", err
	}
	if _, err := a.api.Pool(ctx, s.Name); err == nil {
		return "", sandpool.Errorf(sandpool.Conflict, "", "name",
			"There is a pool %q; choose another name.", s.Name)
	}
	if _, err := a.api.BeginPutPool(ctx, s.Name, p); err != nil {
		return "", err
	}
	w.visits.tell(a.Request, "The pool is being prepared.")
	return poolPath(s.Name), nil
}

// update changes the numbers of a pool.
func (w *Web) update(ctx context.Context, a asked) (string, error) {
	name := a.PathValue("name")
	s := settingsOf(a.Request)
	p, err := settings{Max: s.Max, Ready: s.Ready, Cooldown: s.Cooldown,
		History: s.History}.resource()
	if err != nil {
		return "", err
	}
	p.Location = ""
	if _, err := a.api.BeginPatchPool(ctx, name, p); err != nil {
		return "", err
	}
	w.visits.tell(a.Request, "Saved.")
	return poolPath(name), nil
}

// remove deletes a pool whose name was written again.
func (w *Web) remove(ctx context.Context, a asked) (string, error) {
	name := a.PathValue("name")
	if a.PostFormValue("confirm") != name {
		return "", sandpool.Errorf(sandpool.Invalid, "", "confirm",
			"Write the pool's name, %q, to delete it.", name)
	}
	if _, err := a.api.DeletePool(ctx, name); err != nil {
		return "", err
	}
	w.visits.tell(a.Request, "The pool "+name+" is deleted.")
	return Prefix, nil
}

func (w *Web) endSession(ctx context.Context, a asked) (string, error) {
	name := a.PathValue("name")
	if err := a.api.DeleteSession(ctx, name, a.PostFormValue("identifier")); err != nil {
		return "", err
	}
	w.visits.tell(a.Request, "The session has ended.")
	return poolPath(name), nil
}

// cooldown is that of a pool in seconds, in whichever place its version has it.
func cooldown(p *api.SessionPoolProperties) string {
	if p == nil || p.DynamicPoolConfiguration == nil {
		return ""
	}
	d := p.DynamicPoolConfiguration
	n := d.CooldownPeriodInSeconds
	if d.LifecycleConfiguration != nil && d.LifecycleConfiguration.CooldownPeriodInSeconds != nil {
		n = d.LifecycleConfiguration.CooldownPeriodInSeconds
	}
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}
