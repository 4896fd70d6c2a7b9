package kube_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What the examples below deploy/gateway may say, as Gateway API v1 and cert-manager v1 have it. A
// field that is not here is a mistake.
type (
	typeMeta struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   struct{ Name, Namespace string }
	}
	parent struct {
		Kind, Name, Namespace string
		SectionName           string `yaml:"sectionName"`
	}
	gateway struct {
		typeMeta `yaml:",inline"`
		Spec     struct {
			GatewayClassName string `yaml:"gatewayClassName"`
			Listeners        []listener
		}
	}
	listener struct {
		Name, Protocol, Hostname string
		Port                     int
		TLS                      *struct {
			Mode            string
			CertificateRefs []struct{ Name string } `yaml:"certificateRefs"`
		}
	}
	httpRoute struct {
		typeMeta `yaml:",inline"`
		Spec     struct {
			ParentRefs []parent `yaml:"parentRefs"`
			Hostnames  []string
			Rules      []routeRule
		}
	}
	routeRule struct {
		Matches []struct {
			Path struct{ Type, Value string }
		}
		Timeouts *struct {
			Request        string
			BackendRequest string `yaml:"backendRequest"`
		}
		BackendRefs []struct {
			Name string
			Port int
		} `yaml:"backendRefs"`
		Filters []struct {
			Type            string
			RequestRedirect struct {
				Scheme     string
				StatusCode int `yaml:"statusCode"`
			} `yaml:"requestRedirect"`
		}
	}
	issuer struct {
		typeMeta `yaml:",inline"`
		Spec     struct {
			ACME struct {
				Server, Email       string
				PrivateKeySecretRef struct{ Name string } `yaml:"privateKeySecretRef"`
				Solvers             []struct {
					HTTP01 struct {
						GatewayHTTPRoute struct {
							ParentRefs []parent `yaml:"parentRefs"`
						} `yaml:"gatewayHTTPRoute"`
					} `yaml:"http01"`
				}
			}
		}
	}
	certificate struct {
		typeMeta `yaml:",inline"`
		Spec     struct {
			SecretName string   `yaml:"secretName"`
			DNSNames   []string `yaml:"dnsNames"`
			PrivateKey struct {
				Algorithm      string
				Size           int
				RotationPolicy string `yaml:"rotationPolicy"`
			} `yaml:"privateKey"`
			IssuerRef struct{ Name, Kind string } `yaml:"issuerRef"`
		}
	}
)

// edge is all that deploy/gateway has.
type edge struct {
	gateway     gateway
	routes      []httpRoute
	issuer      issuer
	certificate certificate
}

// readEdge reads the examples strictly.
func readEdge(t *testing.T) (e edge) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/gateway/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var doc yaml.Node
			if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var is struct {
				APIVersion string `yaml:"apiVersion"`
				Kind       string
			}
			if err := doc.Decode(&is); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var into any
			switch is.APIVersion + " " + is.Kind {
			case "gateway.networking.k8s.io/v1 Gateway":
				into = &e.gateway
			case "gateway.networking.k8s.io/v1 HTTPRoute":
				e.routes = append(e.routes, httpRoute{})
				into = &e.routes[len(e.routes)-1]
			case "cert-manager.io/v1 Issuer":
				into = &e.issuer
			case "cert-manager.io/v1 Certificate":
				into = &e.certificate
			default:
				t.Fatalf("%s has a %s of %s", file, is.Kind, is.APIVersion)
			}
			one, err := yaml.Marshal(&doc)
			if err != nil {
				t.Fatal(err)
			}
			strict := yaml.NewDecoder(bytes.NewReader(one))
			strict.KnownFields(true)
			if err := strict.Decode(into); err != nil {
				t.Errorf("%s: %s: %v", file, is.Kind, err)
			}
		}
	}
	return e
}

// The examples for a Gateway and for cert-manager fit together and to the chart's Service: each
// name that one of them says is what another one has, and no route ends streams.
func TestGatewayExamples(t *testing.T) {
	e := readEdge(t)
	has := map[string]listener{}
	for _, l := range e.gateway.Spec.Listeners {
		has[l.Name] = l
	}
	reaches := func(what string, parents []parent, namespace string) {
		t.Helper()
		for _, p := range parents {
			if p.Name != e.gateway.Metadata.Name || has[p.SectionName].Port == 0 ||
				p.Namespace != "" && p.Namespace != e.gateway.Metadata.Namespace ||
				namespace != e.gateway.Metadata.Namespace || p.Kind != "" && p.Kind != "Gateway" {
				t.Errorf("%s is behind %+v, which is not there", what, p)
			}
		}
		if len(parents) == 0 {
			t.Errorf("%s is behind nothing", what)
		}
	}
	host := has["https"].Hostname
	if https := has["https"]; https.Protocol != "HTTPS" || https.TLS == nil ||
		https.TLS.Mode != "Terminate" || len(https.TLS.CertificateRefs) != 1 ||
		https.TLS.CertificateRefs[0].Name != e.certificate.Spec.SecretName || host == "" ||
		has["http"].Protocol != "HTTP" || has["http"].Hostname != host ||
		e.gateway.Spec.GatewayClassName == "" {
		t.Errorf("the Gateway is %+v", e.gateway)
	}
	served, sent := false, false
	for _, r := range e.routes {
		reaches(r.Metadata.Name, r.Spec.ParentRefs, r.Metadata.Namespace)
		if !slices.Equal(r.Spec.Hostnames, []string{host}) || len(r.Spec.Rules) != 1 {
			t.Fatalf("the route %s is %+v", r.Metadata.Name, r.Spec)
		}
		switch rule := r.Spec.Rules[0]; r.Spec.ParentRefs[0].SectionName {
		case "https":
			served = true
			if rule.Timeouts == nil || rule.Timeouts.Request != "0s" ||
				rule.Timeouts.BackendRequest != "0s" || len(rule.BackendRefs) != 1 ||
				len(rule.Matches) != 1 || rule.Matches[0].Path.Value != "/" ||
				rule.Matches[0].Path.Type != "PathPrefix" {
				t.Fatalf("the service is behind %+v", rule)
			}
			wantService(t, rule.BackendRefs[0].Name, rule.BackendRefs[0].Port)
		case "http":
			sent = true
			if len(rule.Filters) != 1 || rule.Filters[0].Type != "RequestRedirect" ||
				rule.Filters[0].RequestRedirect.Scheme != "https" || len(rule.BackendRefs) > 0 {
				t.Errorf("without TLS there is %+v", rule)
			}
		}
	}
	if !served || !sent {
		t.Errorf("the service has a route: %t; there is one to it: %t", served, sent)
	}
	c, i := e.certificate, e.issuer
	if !slices.Equal(c.Spec.DNSNames, []string{host}) || c.Spec.IssuerRef.Kind != i.Kind ||
		c.Spec.IssuerRef.Name != i.Metadata.Name || c.Metadata.Namespace != i.Metadata.Namespace ||
		c.Metadata.Namespace != e.gateway.Metadata.Namespace {
		t.Errorf("the certificate is %+v", c)
	}
	if a := i.Spec.ACME; a.Server == "" || a.Email == "" || a.PrivateKeySecretRef.Name == "" ||
		len(a.Solvers) != 1 {
		t.Fatalf("the issuer is %+v", i)
	}
	reaches("the challenge", i.Spec.ACME.Solvers[0].HTTP01.GatewayHTTPRoute.ParentRefs,
		i.Metadata.Namespace)
}

// wantService looks for a Service of the chart with a port.
func wantService(t *testing.T, name string, port int) {
	t.Helper()
	for _, o := range render(t, values(t, "{image: {repository: r, tag: t}, "+
		"sandboxes: {runtimeClass: gvisor}}")) {
		if o.Kind != "Service" || o.Metadata.Name != name {
			continue
		}
		ports, _ := o.Spec["ports"].([]any)
		for _, p := range ports {
			if p.(map[string]any)["port"] == port {
				return
			}
		}
	}
	t.Errorf("the chart has no Service %s with the port %d", name, port)
}
