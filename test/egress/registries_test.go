package egress_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The names under which people's tools find what they install. Each answers as the real ones do, in
// the least form that the tools accept.

// packTar returns a gzipped archive of one file.
func packTar(name, text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644,
		Size: int64(len(text))})
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}

func serveBytes(mux *http.ServeMux, path string, data []byte) {
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}

// serveNPM is a registry with the package tiny-js.
func serveNPM(mux *http.ServeMux) {
	archive := packTar("package/package.json",
		`{"name":"tiny-js","version":"1.0.0","main":"package.json"}`)
	sum := sha512.Sum512(archive)
	serveBytes(mux, "/npm/tiny-js/-/tiny-js-1.0.0.tgz", archive)
	mux.HandleFunc("/npm/tiny-js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"name":"tiny-js","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"tiny-js","version":"1.0.0",
			"dist":{"tarball":"http://%s/npm/tiny-js/-/tiny-js-1.0.0.tgz","integrity":"sha512-%s"}}}}`,
			r.Host, base64.StdEncoding.EncodeToString(sum[:]))
	})
}

// serveGit is a repository with one commit, by git's dumb protocol.
func serveGit(mux *http.ServeMux) {
	object := func(kind string, content []byte) (sum []byte) {
		whole := append(fmt.Appendf(nil, "%s %d\x00", kind, len(content)), content...)
		id := sha1.Sum(whole)
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, _ = z.Write(whole)
		_ = z.Close()
		name := hex.EncodeToString(id[:])
		serveBytes(mux, "/tiny.git/objects/"+name[:2]+"/"+name[2:], b.Bytes())
		return id[:]
	}
	blob := object("blob", []byte("the file\n"))
	tree := object("tree", append([]byte("100644 file\x00"), blob...))
	commit := hex.EncodeToString(object("commit", fmt.Appendf(nil,
		"tree %x\nauthor A <a@example.com> 0 +0000\ncommitter A <a@example.com> 0 +0000\n\nfirst\n",
		tree)))
	serveBytes(mux, "/tiny.git/HEAD", []byte("ref: refs/heads/main\n"))
	serveBytes(mux, "/tiny.git/info/refs", []byte(commit+"\trefs/heads/main\n"))
}

// serveApt is a flat archive with one package, whose content nobody reads.
func serveApt(mux *http.ServeMux) {
	deb := bytes.Repeat([]byte("deb"), 1<<18)
	serveBytes(mux, "/apt/tiny.deb", deb)
	serveBytes(mux, "/apt/Packages", fmt.Appendf(nil,
		"Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@example.com>\n"+
			"Filename: ./tiny.deb\nSize: %d\nSHA256: %x\nDescription: tiny\n\n", len(deb),
		sha256.Sum256(deb)))
}

// largeSize is that of the large download.
const largeSize = 256 << 20

// serveLarge sends and takes many bytes.
func serveLarge(mux *http.ServeMux) {
	mux.HandleFunc("GET /gigabyte", func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 1<<18)
		for range 1 << 30 / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, _ *http.Request) {
		block := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
		for range largeSize / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("PUT /large", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
}
