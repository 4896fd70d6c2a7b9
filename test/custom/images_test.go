package custom_test

import (
	"archive/tar"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// searchPath is what images of Debian have.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// An application is a server as people have it, in an image.
type application struct {
	name  string
	port  int
	image func(testing.TB) ocitest.Image
	// hello is what its clients send first, if it does not speak HTTP.
	hello string
	// use reaches it by its own client, as the session that the name says.
	use func(t *testing.T, k *kit, pool, session string)
}

// applications are one of each kind: what serves files, what is compiled, what has a runtime that
// takes its time to start, and what does not speak HTTP.
func applications() []application {
	return []application{
		{name: "nginx", port: 8080, image: nginxImage, use: useNginx},
		{name: "go", port: 8080, image: goImage, use: useCounter("/echo", "abc")},
		{name: "node", port: 8080, image: nodeImage, use: useCounter("/sum", "294\n")},
		{name: "uvicorn", port: 8080, image: uvicornImage, use: useCounter("/sum", "294\n")},
		{name: "redis", port: 6379, image: redisImage, hello: "PING\r\n", use: useRedis},
		{name: "postgres", port: 5432, image: postgresImage,
			hello: "\x00\x00\x00\x08\x04\xd2\x16\x2f", use: usePostgres},
	}
}

// base are the packages that make a system of the unpacked ones: its folders and a shell.
var base = []string{"base-files", "coreutils", "dash"}

// users is what Debian's base-passwd writes when it is installed, as far as it matters here.
func users() []ocitest.Entry {
	return []ocitest.Entry{
		ocitest.File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"+
			"www-data:x:33:33::/srv:/usr/sbin/nologin\napp:x:999:999::/srv:/usr/sbin/nologin\n"),
		ocitest.File("etc/group", 0o644, "root:x:0:\nwww-data:x:33:\napp:x:999:\n"),
		folder("srv", 999),
	}
}

func folder(name string, owner int) ocitest.Entry {
	return ocitest.Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755,
		Uid: owner, Gid: owner}}
}

// debianImage is unpacked packages and, in a layer above, what makes them an application.
func debianImage(t testing.TB, cfg v1.Config, packages []string,
	entries ...ocitest.Entry) ocitest.Image {
	t.Helper()
	cfg.Env = append([]string{searchPath}, cfg.Env...)
	if cfg.User == "" {
		cfg.User = "app"
	}
	return ocitest.Image{Config: cfg, Layers: []string{
		ocitest.Unpacked(t, append(packages, base...)...),
		ocitest.Layer(t, append(users(), entries...)...),
	}}
}

// from is a file of testdata/images at a place in the image.
func from(t testing.TB, file, place string, mode int64) ocitest.Entry {
	t.Helper()
	text, err := os.ReadFile("testdata/images/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return ocitest.File(place, mode, string(text))
}

func nginxImage(t testing.TB) ocitest.Image {
	return debianImage(t, v1.Config{Entrypoint: []string{"nginx"}, User: "www-data"},
		[]string{"nginx-light"}, from(t, "nginx.conf", "etc/nginx/nginx.conf", 0o644),
		folder("srv", 33), ocitest.File("srv/index.html", 0o644, "from nginx\n"))
}

// goImage has nothing but the program.
func goImage(t testing.TB) ocitest.Image {
	program, err := os.ReadFile(build(t, "./testdata/app"))
	if err != nil {
		t.Fatal(err)
	}
	return ocitest.Image{Layers: []string{ocitest.Layer(t,
		ocitest.File("app", 0o755, string(program)))},
		Config: v1.Config{Entrypoint: []string{"/app"}, User: "1000:1000"}}
}

func nodeImage(t testing.TB) ocitest.Image {
	return debianImage(t, v1.Config{Cmd: []string{"node", "/srv/server.js"}},
		[]string{"nodejs"}, from(t, "server.js", "srv/server.js", 0o644))
}

func uvicornImage(t testing.TB) ocitest.Image {
	return debianImage(t, v1.Config{WorkingDir: "/srv", Cmd: []string{"python3", "-m", "uvicorn",
		"app:app", "--host", "0.0.0.0", "--port", "8080"}},
		[]string{"python3-uvicorn"}, from(t, "app.py", "srv/app.py", 0o644))
}

func redisImage(t testing.TB) ocitest.Image {
	return debianImage(t, v1.Config{WorkingDir: "/srv", Entrypoint: []string{"redis-server"},
		Cmd: []string{"--save", "", "--appendonly", "no"}}, []string{"redis-server"})
}

func postgresImage(t testing.TB) ocitest.Image {
	return debianImage(t, v1.Config{Entrypoint: []string{"/start"},
		Env: []string{"PGDATA=/srv/data"}},
		[]string{"postgresql-17"}, from(t, "postgres.sh", "start", 0o755))
}
