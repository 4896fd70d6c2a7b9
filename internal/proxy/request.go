package proxy

import (
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Fields that a request never carries into a container, by their lower-case names. A name with
// an underscore counts as the one with a hyphen, since CGI and its descendants (WSGI, Rack, PHP)
// do not tell them apart.
var (
	// hopByHop are those of RFC 9110, section 7.6.1, and what older software sends.
	hopByHop = map[string]bool{
		"connection": true, "keep-alive": true, "proxy-connection": true, "te": true,
		"transfer-encoding": true, "upgrade": true, "trailer": true,
		"http2-settings": true, "proxy-authenticate": true,
	}
	// framing are written from what was parsed, never copied.
	framing = map[string]bool{"host": true, "content-length": true, "expect": true}
	// ours say who calls, from where; see forwardedHeaders. The rest are keys to the pool.
	ours = map[string]bool{
		"forwarded": true, "x-real-ip": true, "x-original-host": true, "x-original-url": true,
		"x-rewrite-url": true, "x-ms-session-identifier": true, "x-ms-apikey": true,
		"proxy-authorization": true,
	}
)

// private reports whether the request field name, in lower case, is one that only we set or
// that is meant for us.
func private(name string) bool {
	return ours[name] || strings.HasPrefix(name, "x-forwarded-") ||
		strings.HasPrefix(name, "x-sandpool-")
}

// lower returns name in lower case with hyphens for underscores. Most names are canonical, and
// the maps above are small: one allocation a field is avoided by lowerInto.
func lowerInto(buf *[64]byte, name string) string {
	if len(name) > len(buf) {
		return strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		buf[i] = c
	}
	return string(buf[:len(name)])
}

// nominated returns the lower-case names that the Connection fields of h list.
func nominated(h http.Header) []string {
	var names []string
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			names = append(names, strings.ToLower(strings.Trim(name, " \t")))
		}
	}
	return names
}

// lists reports whether a comma-separated field of h has token among its values.
func lists(h http.Header, field, token string) bool {
	for _, v := range h[field] {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// upgradeOf returns the protocol that r wants to change to, and "" if it wants none that is
// forwarded. A request with a body keeps its protocol, as RFC 9110, section 7.8, lets a
// server choose. h2c would be a way past everything that this package does to requests.
func upgradeOf(r *http.Request) string {
	if r.ProtoMajor != 1 || !lists(r.Header, "Connection", "upgrade") || hasBody(r) {
		return ""
	}
	v := r.Header["Upgrade"]
	if len(v) != 1 || v[0] == "" || strings.EqualFold(v[0], "h2c") || !isToken(v[0], "/") {
		return ""
	}
	return v[0]
}

func hasBody(r *http.Request) bool {
	return r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody
}

// each calls f for every field of r that goes to the container, those of who calls included.
func (p *Proxy) each(r *http.Request, t Target, f func(name, value string)) {
	drop := nominated(r.Header)
	var buf [64]byte
	for name, values := range r.Header {
		low := lowerInto(&buf, name)
		switch {
		case hopByHop[low] || framing[low] || private(low) || listed(drop, low):
			continue
		case low == "authorization" && !t.KeepAuthorization:
			continue
		case low == "cookie" && !t.KeepCookies:
			for _, v := range values {
				if v = otherCookies(v); v != "" {
					f(name, v)
				}
			}
			continue
		}
		for _, v := range values {
			f(name, v)
		}
	}
	forwardedHeaders(r, t, f)
}

func listed(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// forwardedHeaders are what the container learns of its caller: RFC 7239 and its forerunners.
func forwardedHeaders(r *http.Request, t Target, f func(name, value string)) {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	proto := "http"
	if r.TLS != nil {
		proto = "https"
	}
	f("X-Forwarded-For", ip)
	f("X-Forwarded-Proto", proto)
	if r.Host != "" {
		f("X-Forwarded-Host", r.Host)
	}
	if t.Prefix != "" {
		f("X-Forwarded-Prefix", t.Prefix)
	}
	var b strings.Builder
	b.WriteString("for=")
	if strings.Contains(ip, ":") {
		b.WriteString(`"[` + ip + `]"`)
	} else {
		b.WriteString(ip)
	}
	if r.Host != "" {
		b.WriteString(`;host="` + r.Host + `"`)
	}
	b.WriteString(";proto=" + proto)
	f("Forwarded", b.String())
}

// A framing of a request's body, as it goes to the container.
type bodyKind int

const (
	noBody bodyKind = iota
	sizedBody
	chunkedBody
)

func kindOf(r *http.Request) bodyKind {
	switch {
	case !hasBody(r):
		return noBody
	case r.ContentLength > 0:
		return sizedBody
	}
	return chunkedBody
}

// appendHead writes r's head as HTTP/1.1. Everything in it has been checked: the method is a
// token, the target has no byte that ends it, and no field has one that ends a line.
func (p *Proxy) appendHead(b []byte, r *http.Request, t Target, upgrade string) []byte {
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, t.Path...)
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		b = append(b, '?')
		b = append(b, r.URL.RawQuery...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.Host...)
	b = append(b, "\r\n"...)
	field := func(name, value string) {
		b = append(b, name...)
		b = append(b, ": "...)
		b = append(b, value...)
		b = append(b, "\r\n"...)
	}
	p.each(r, t, field)
	switch kindOf(r) {
	case sizedBody:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.ContentLength, 10)
		b = append(b, "\r\n"...)
	case chunkedBody:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for name := range r.Trailer {
			if trailerAllowed(name) {
				field("Trailer", name)
			}
		}
	case noBody:
		if r.Header["Content-Length"] != nil {
			b = append(b, "Content-Length: 0\r\n"...)
		}
	}
	if expects(r) {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case upgrade != "":
		b = append(b, "Connection: Upgrade\r\n"...)
		field("Upgrade", upgrade)
	case lists(r.Header, "Te", "trailers"):
		b = append(b, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return append(b, "\r\n"...)
}

// expects reports whether r waits for leave to send its body.
func expects(r *http.Request) bool {
	return hasBody(r) && lists(r.Header, "Expect", "100-continue")
}

// trailerAllowed reports whether a field may stand in a trailer section, in either direction:
// none that frames, routes or says who calls (RFC 9110, section 6.5.1).
func trailerAllowed(name string) bool {
	var buf [64]byte
	low := lowerInto(&buf, name)
	switch low {
	case "authorization", "cookie", "set-cookie", "content-encoding", "content-type",
		"content-range":
		return false
	}
	return !hopByHop[low] && !framing[low] && !private(low)
}

// checkRequest refuses what cannot be written as one HTTP/1.1 request without meaning another. The
// server that read r has checked most of it; a request by HTTP/2 may hold more.
func checkRequest(r *http.Request, t Target) error {
	switch {
	case !isToken(r.Method, ""):
		return refuse("method", "The method is not a token.")
	case t.Path == "" || t.Path[0] != '/' && (t.Path != "*" || r.Method != http.MethodOptions):
		return refuse("path", "The path does not begin with a slash.")
	case !printable(t.Path):
		return refuse("path", "The path has a space or a control character; send it escaped.")
	case !hasBody(r) && !zeroLength(r.Header["Content-Length"]):
		return refuse("Content-Length",
			"The header Content-Length promises a body that the request does not have.")
	case !printable(r.URL.RawQuery):
		return refuse("query", "The query has a space or a control character; send it escaped.")
	case !printable(r.Host) || strings.ContainsAny(r.Host, `"\,;/@`):
		return refuse("Host", "The host has a character that no host has.")
	}
	for name, values := range r.Header {
		if err := checkField(name, values); err != nil {
			return err
		}
	}
	return nil
}

// zeroLength reports whether Content-Length fields allow a request without a body.
func zeroLength(values []string) bool {
	for _, v := range values {
		if n, err := strconv.ParseUint(v, 10, 63); err != nil || n != 0 {
			return false
		}
	}
	return true
}

// RawPath returns the path of r byte for byte as its caller has sent it, escapes included and
// without the query; the path in r.URL may be written in another way. It is empty for an address
// without one. A request line may hold a whole URL (RFC 9112, section 3.2.2).
func RawPath(r *http.Request) string {
	if r.RequestURI == "" { // a request that no server has read
		return r.URL.EscapedPath()
	}
	uri, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, absolute := strings.Cut(uri, "://"); absolute && uri[0] != '/' {
		return rest[min(len(rest), strings.IndexByte(rest+"/", '/')):]
	}
	return uri
}

// checkField refuses a field that could end its line.
func checkField(name string, values []string) error {
	if !isToken(name, "") {
		return refuse("header", "The name of the header %q is not a token.", clip(name))
	}
	for _, v := range values {
		if !fieldText(v) {
			return refuse("header", "The value of the header %s has a control character.",
				clip(name))
		}
	}
	return nil
}

// printable reports whether s has neither a space nor a control character.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// fieldText reports whether s may be the value of a field.
func fieldText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2, in which the characters of
// also may stand as well.
func isToken(s, also string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 &&
			strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return s != ""
}

func clip(s string) string { return s[:min(len(s), 80)] }
