package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/container"
	"github.com/sandpool/sandpool/internal/event"
)

const (
	// tidyEvery is how often container images that nothing uses are looked for.
	tidyEvery = time.Hour
	// keepUnused is how long they stay after they were last asked for: a pool that is made again
	// soon need not pull again.
	keepUnused = 24 * time.Hour
)

// deletions is told by the events of pools that have been deleted. Further ones before anybody has
// looked say nothing more.
type deletions chan struct{}

// Consume implements event.Sink.
func (d deletions) Consume(_ context.Context, events []event.Event) {
	for _, e := range events {
		if e.Name == event.PoolDeleted {
			select {
			case d <- struct{}{}:
			default:
			}
		}
	}
}

// tidyImages notes what the pools use, and removes container images that nothing uses, until ctx
// ends: at once, every hour, and when a pool has been deleted. In a folder that servers share
// nothing is removed: see container.Tidy.
func (s *Server) tidyImages(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		pools, err := s.store.Pools(ctx)
		if err == nil {
			removed, failed := container.Tidy(s.images, s.cfg.imageUser(), s.cfg.ImageDir != "",
				pools, keepUnused)
			for _, i := range removed {
				s.log.Info("a container image that nothing used is removed", "image", i.Manifest,
					"references", i.References, "bytes", i.Size)
			}
			err = failed
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("container images are not tidied up", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.deleted:
		}
	}
}

// pulled tells that the image of a pool has come.
func (s *Server) pulled(id sandpool.PoolID, bytes int64, took time.Duration) {
	s.events.Observe(event.Event{Name: event.ImagePulled, Pool: id, Count: bytes, Took: took})
}

// pulling says how far the pull of a pool's image is.
func pulling(containers *container.Containers) func(sandpool.PoolID) *api.Pull {
	return func(id sandpool.PoolID) *api.Pull {
		at, ok := containers.Pull(id)
		if !ok {
			return nil
		}
		return &api.Pull{Step: string(at.Step), Layers: at.Layers, LayersDone: at.Done,
			Bytes: at.Bytes, TotalBytes: at.Total}
	}
}

// imageUser tells this server from others that share its images, and is the same after a restart.
func (c Config) imageUser() string {
	host, _ := os.Hostname() // without one, the folder has to do
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		dir = c.DataDir
	}
	sum := sha256.Sum256([]byte(host + "\x00" + dir))
	return hex.EncodeToString(sum[:6])
}
