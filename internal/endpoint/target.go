package endpoint

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/proxy"
)

// Target is where a request goes.
type Target struct {
	Pool sandpool.PoolID
	// Path is what follows the pool's endpoint in the request line, escaped and as it came:
	// empty, or beginning with a slash.
	Path string
	// Prefix is what comes before it. It is empty at a host name of the pool's own.
	Prefix string
	// OwnHost says that the request came to a host name of the pool's own.
	OwnHost bool

	mcp bool // it is the MCP endpoint, if its pool has one
}

// Find returns the target of a request, and false if it is not for a pool's data plane. Whether
// there is such a pool, it does not say.
func Find(r *http.Request, suffix string) (Target, bool) {
	path := proxy.RawPath(r)
	if suffix != "" {
		if pool, ok := poolOfHost(r.Host, suffix); ok {
			return Target{Pool: pool, Path: path, OwnHost: true, mcp: isMCP(path)}, true
		}
	}
	t, ok := poolOfPath(path)
	t.mcp = ok && isMCP(t.Path)
	return t, ok
}

// endpointWords are the fixed words of arm.EndpointPath; after each comes a name.
var endpointWords = [...]string{"subscriptions", "resourceGroups", "sessionPools"}

// poolOfPath reads the endpoint that a path begins with. As everywhere in Resource Manager the
// case of its fixed words does not matter, nor how many slashes are between them.
func poolOfPath(path string) (Target, bool) {
	rest := path
	var names [len(endpointWords)]string
	for i, word := range endpointWords {
		var found, name string
		found, rest = cutSegment(rest)
		name, rest = cutSegment(rest)
		if !strings.EqualFold(found, word) || name == "" || name == "." || name == ".." {
			return Target{}, false
		}
		names[i] = name
	}
	return Target{Pool: sandpool.PoolID{Subscription: names[0], ResourceGroup: names[1],
		Name: names[2]},
		Path: rest, Prefix: path[:len(path)-len(rest)]}, true
}

// cutSegment returns the first segment of a path, decoded, and what follows it. A segment with an
// invalid escape is returned as none.
func cutSegment(path string) (segment, rest string) {
	if !strings.HasPrefix(path, "/") {
		return "", path
	}
	path = strings.TrimLeft(path, "/")
	at := strings.IndexByte(path, '/')
	if at < 0 {
		at = len(path)
	}
	segment, err := url.PathUnescape(path[:at])
	if err != nil {
		segment = ""
	}
	return segment, path[at:]
}

// Region stands for a pool's location in the settings of endpoints.
const Region = "{region}"

// isRegion reports whether a location, in its plain form, may be a label of a host name.
func isRegion(label string) bool {
	return label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-' &&
		strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// Base is where pools of a location are reached, by a pattern that may have Region in it. A
// location that no host can have makes it empty, which means the server's own address.
func Base(pattern, location string) string {
	region := sandpool.PlainLocation(location)
	if strings.Contains(pattern, Region) && !isRegion(region) {
		return ""
	}
	return strings.ReplaceAll(pattern, Region, region)
}

// poolOfHost reads the pool that a host name stands for.
func poolOfHost(host, suffix string) (sandpool.PoolID, bool) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	rest, regional := strings.CutPrefix(suffix, Region+".")
	labels, ok := strings.CutSuffix(host, "."+rest)
	if !ok {
		return sandpool.PoolID{}, false
	}
	if regional {
		at := strings.LastIndexByte(labels, '.')
		if at < 0 || !isRegion(labels[at+1:]) {
			return sandpool.PoolID{}, false
		}
		labels = labels[:at]
	}
	id := sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
		ResourceGroup: sandpool.DefaultResourceGroup}
	name, scope, scoped := strings.Cut(labels, ".")
	id.Name = name
	if scoped {
		// The name of a group may hold dots, that of a subscription may not.
		last := strings.LastIndexByte(scope, '.')
		if last < 0 {
			return sandpool.PoolID{}, false
		}
		id.ResourceGroup, id.Subscription = scope[:last], scope[last+1:]
	}
	return id, arm.CheckPoolID(id) == nil
}

// URL returns the endpoint of a pool at a host name of its own below base, which is how callers
// reach the server: its scheme and port are the endpoint's too. A pool whose group has a name that
// no host can have, or whose location stands in the suffix and is such a name, keeps its path.
func URL(base string, id sandpool.PoolID, location, suffix string) string {
	u, err := url.Parse(base)
	suffix = Base(suffix, location)
	if err != nil || suffix == "" || strings.ContainsAny(id.ResourceGroup, "_()") {
		return base + arm.EndpointOf(id)
	}
	labels := id.Name
	if id.Subscription != sandpool.DefaultSubscription ||
		id.ResourceGroup != sandpool.DefaultResourceGroup {
		labels += "." + id.ResourceGroup + "." + id.Subscription
	}
	host := strings.ToLower(labels + "." + suffix)
	if port := u.Port(); port != "" {
		host = net.JoinHostPort(host, port)
	}
	return u.Scheme + "://" + host
}

// management reports whether the target is what is served of every pool: what is below
// .management. It returns that with one spelling.
func (t Target) management() (string, bool) {
	first, rest := cutSegment(t.Path)
	if !strings.EqualFold(first, ".management") || strings.HasPrefix(t.Path, "//") {
		return "", false
	}
	operation, _ := cutSegment(rest)
	return strings.ToLower(operation), true
}

// isMCP reports whether a path below a pool's endpoint is that of MCP.
func isMCP(path string) bool {
	first, rest := cutSegment(path)
	return strings.EqualFold(first, "mcp") && strings.Trim(rest, "/") == ""
}
