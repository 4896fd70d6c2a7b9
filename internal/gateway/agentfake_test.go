package gateway

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// fakeAgent answers for a lease: executions as its world orders, files from memory.
type fakeAgent struct {
	w *world
	l *lease
}

var _ interpreter.Agent = (*fakeAgent)(nil)

func (in *fakeAgent) Execute(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult,
	error) {
	if in.w.execute == nil {
		return agent.ExecuteResult{Outcome: agent.OK}, nil
	}
	res, err := in.w.execute(ctx, in.l, r)
	if frame, _ := agent.EncodeFrame(res); err == nil && r.Room != nil &&
		len(frame) > agent.LargeAnswer {
		err = r.Room.Take(ctx, int64(len(frame)))
	}
	return res, err
}

func (in *fakeAgent) Close() {}

func (in *fakeAgent) Upload(_ context.Context, p string, r io.Reader, limit int64) (agent.FileInfo,
	error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return agent.FileInfo{}, err
	}
	if int64(len(data)) > limit {
		return agent.FileInfo{}, agent.TooLarge(limit)
	}
	in.w.mu.Lock()
	defer in.w.mu.Unlock()
	in.w.files[p] = data
	return in.info(p), nil
}

func (in *fakeAgent) info(p string) agent.FileInfo {
	return agent.FileInfo{Name: path.Base(p), Path: p, Type: agent.File,
		Size:        int64(len(in.w.files[p])),
		ModTime:     time.Date(2026, 5, 4, 3, 2, 1, 123456700, time.UTC),
		ContentType: agent.ContentType(p)}
}

func (in *fakeAgent) List(_ context.Context, dir string, recursive bool,
	_ agent.Room) ([]agent.FileInfo, error) {
	in.w.mu.Lock()
	defer in.w.mu.Unlock()
	found := map[string]agent.FileInfo{}
	for p := range in.w.files {
		rest, ok := strings.CutPrefix("/"+p, strings.TrimSuffix("/"+dir, "/")+"/")
		if !ok {
			continue
		}
		first, _, below := strings.Cut(rest, "/")
		if below {
			d := path.Join(dir, first)
			found[d] = agent.FileInfo{Name: first, Path: d, Type: agent.Directory,
				ModTime: in.info(p).ModTime}
		}
		if !below || recursive {
			found[p] = in.info(p)
		}
	}
	if most := in.w.mostListed; most > 0 && len(found) > most {
		return nil, sandpool.Errorf(sandpool.TooLarge, "TooManyFiles", "path",
			"The listing has more than %d entries.", most)
	}
	files := []agent.FileInfo{}
	for _, f := range found {
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b agent.FileInfo) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

func (in *fakeAgent) Stat(_ context.Context, p string) (agent.FileInfo, error) {
	in.w.mu.Lock()
	defer in.w.mu.Unlock()
	if _, ok := in.w.files[p]; !ok {
		return agent.FileInfo{}, sandpool.Errorf(sandpool.NotFound, "FileNotFound", "path",
			"There is no file %q.", p)
	}
	return in.info(p), nil
}

func (in *fakeAgent) Open(ctx context.Context, p, rangeHeader string) (*agent.Content, error) {
	info, err := in.Stat(ctx, p)
	if err != nil {
		return nil, err
	}
	in.w.mu.Lock()
	defer in.w.mu.Unlock()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if rangeHeader != "" {
		r.Header.Set("Range", rangeHeader)
	}
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", info.ContentType)
	http.ServeContent(rec, r, "", info.ModTime, bytes.NewReader(in.w.files[p]))
	return &agent.Content{Status: rec.Code, Header: rec.Header(), Body: rec.Result().Body}, nil
}

func (in *fakeAgent) Delete(_ context.Context, p string) error {
	in.w.mu.Lock()
	defer in.w.mu.Unlock()
	found := false
	for f := range in.w.files {
		if f == p || strings.HasPrefix(f, p+"/") {
			delete(in.w.files, f)
			found = true
		}
	}
	if !found {
		return sandpool.Errorf(sandpool.NotFound, "FileNotFound", "path", "There is no file %q.", p)
	}
	return nil
}
