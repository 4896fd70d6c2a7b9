package api

// Egress narrows what sandboxes reach whose pool has EgressEnabled. An entry is a name, "*." and a
// name for all names below it, an address or a prefix, each with ":PORT" behind it if only that
// port is meant ("LOW-HIGH" for addresses), and then "/udp" or "/tcp": in Allow without either it
// is TCP, in Deny both. Without Allow every public address is allowed. Deny goes before Allow.
type Egress struct {
	Allow []string `json:"allow,omitzero"`
	Deny  []string `json:"deny,omitzero"`
	// MaxConnections bounds those of one sandbox at the same time; absent means 512.
	MaxConnections *int64 `json:"maxConnections,omitempty"`
	// Bandwidth bounds one sandbox in each direction, in bytes a second, written as "10Mi"; absent
	// means no bound.
	Bandwidth string `json:"bandwidth,omitempty"`
	// Inspect holds connections to the ports 80 and 443 to the names that are allowed, by the
	// server name of TLS and the Host of HTTP, so that an allowed address is of no use for others.
	Inspect *bool `json:"inspect,omitempty"`
	// Proxy leaves sandboxes nothing but a proxy of HTTP, which their environment names
	// (HTTP_PROXY, HTTPS_PROXY) and which takes the names that are allowed: no DNS, no addresses.
	Proxy *bool `json:"proxy,omitempty"`
	// Credentials are headers that requests get outside the sandbox. With some, connections are
	// looked into as with Inspect.
	Credentials []EgressCredential `json:"credentials,omitzero"`
}

// EgressCredential is a header whose secret code in a sandbox never sees, for requests to one host.
type EgressCredential struct {
	// URL is "https://" or "http://" and a host name, such as "https://api.example.com". With
	// "https://" the server ends the TLS of that host, under an authority that sandboxes trust.
	URL string `json:"url"`
	// Header is the name of the header. What code sends under it is dropped.
	Header string `json:"header"`
	// Prefix stands before the secret in the value of the header, such as "Bearer ".
	Prefix string `json:"prefix,omitempty"`
	// SecretRef is the name of one of the pool's secrets.
	SecretRef string `json:"secretRef"`
}

// EgressPolicy is the answer to GET {pool}/egress.
type EgressPolicy struct {
	Status string `json:"status"` // "EgressDisabled", "EgressEnabled"
	Egress
	// Test is there if the query has DestinationParameter.
	Test *EgressTest `json:"test,omitempty"`
}

// EgressTest says what would become of a connection of the pool's sandboxes.
type EgressTest struct {
	Destination string `json:"destination"` // HOST:PORT
	Protocol    string `json:"protocol"`    // "tcp", "udp"
	Allowed     bool   `json:"allowed"`
	Reason      string `json:"reason"` // in a sentence
	// Addresses are those of the host, if it is a name that the policy allows.
	Addresses []string `json:"addresses,omitempty"`
}

// The parameters of the query for EgressPolicy.Test.
const (
	DestinationParameter = "destination"
	ProtocolParameter    = "protocol"
)

// Refusals is what the sandboxes of a pool tried to reach and were not allowed to, since each
// started.
type Refusals struct {
	Packets int64     `json:"packets"`
	Names   int64     `json:"names"`
	Recent  []Refusal `json:"recent"` // newest first; bounded
}

// Refusal is one of them. For a name that was not answered the protocol is "dns" and the port 0.
type Refusal struct {
	Time     string `json:"time"` // RFC 3339, of the last try
	Host     string `json:"host"`
	Port     int    `json:"port,omitempty"`
	Protocol string `json:"protocol"`
	Reason   string `json:"reason,omitempty"`
	Count    int64  `json:"count"`
}
