package servers_test

import (
	"context"
	"strings"
	"syscall"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// TestLocations: two servers with a location each. A pool runs on the server of its location,
// whichever one was asked for it; one of a location without a server says so, and runs as soon as
// there is one.
func TestLocations(t *testing.T) {
	w := newWorld(t)
	east := w.serve("one", "SANDPOOL_LOCATIONS=[East US]",
		"SANDPOOL_ENDPOINT_URL=https://{region}.dynamicsessions.io")
	west := w.serve("two", "SANDPOOL_LOCATIONS=[west]")
	ctx, cancel := context.WithTimeout(t.Context(), 3*replaceTime)
	defer cancel()
	body := func(location string) api.SessionPool {
		most, ready := 3, 1
		return api.SessionPool{Location: location, Properties: &api.SessionPoolProperties{
			ContainerType: string(sandpool.PythonLTS), ScaleConfiguration: &api.ScaleConfiguration{
				MaxConcurrentSessions: &most, ReadySessionInstances: &ready}}}
	}
	w.eventually(ctx, "east knows of west", func() error {
		_, err := east.PutPool(ctx, "there", body("WEST"))
		return err
	})
	w.eventually(ctx, "west knows of east", func() error {
		_, err := west.PutPool(ctx, "here", body("eastus"))
		return err
	})
	if _, err := west.PutPool(ctx, "nowhere", body("mars")); err == nil ||
		!strings.Contains(err.Error(), "west, East US") {
		t.Errorf("an unknown location: %v", err)
	}
	for _, name := range []string{"here", "there"} {
		if _, err := west.WaitReady(ctx, name, nil); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*server{east, west} {
			got, err := s.Execute(ctx, name, session, client.Run{Code: "print(42)"})
			if err != nil || strings.TrimSpace(got.Result.Stdout) != "42" {
				t.Errorf("%s by %s: %+v, %v", name, s.name, got, err)
			}
		}
	}
	if p, err := east.Pool(ctx, "here"); err != nil || p.Location != "East US" ||
		!strings.HasPrefix(p.Properties.PoolManagementEndpoint,
			"https://eastus.dynamicsessions.io/subscriptions/") {
		t.Errorf("the pool is %+v, %v", p.Properties, err)
	}
	if err := west.DeleteSession(ctx, "there", session); err != nil {
		t.Fatal(err)
	}
	west.end(syscall.SIGKILL)
	w.eventually(ctx, "the pool does not say that nobody serves it", func() error {
		p, err := east.Pool(ctx, "there")
		if err == nil && !strings.Contains(p.Properties.Sandpool.Problem,
			`No server that runs serves the location "west"`) {
			err = &sandpool.Error{Message: "its problem is " + p.Properties.Sandpool.Problem}
		}
		return err
	})
	west.start("stop")
	w.eventually(ctx, "the pool does not run again", func() error {
		_, err := east.Execute(ctx, "there", session, client.Run{Code: "1"})
		return err
	})
}
