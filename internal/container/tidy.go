package container

import (
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
)

// userPrefix begins the names of pools as users of images.
const userPrefix = "pool "

// Tidy tells the store which images the pools of a server use now, and removes the container images
// that nothing uses and nothing has asked for in the time of keep: those of deleted pools, and what
// a changed pool has left when its last session has ended. Images that were built here or loaded
// from a file are not removed: no registry has them.
//
// A store that is shared has users that this server does not know. They stay as long as their
// servers state every hour what they use, and image.UseLife beyond that; nothing is removed from it
// but by "sandpool image prune". In any other store whoever is no pool of this server is gone.
//
// A pool that is being changed has claimed an image that its row does not name yet. That image
// was asked for just now, so keep, which must be longer than a change may take, protects it.
func Tidy(store *image.Store, server string, shared bool, pools []sandpool.Pool,
	keep time.Duration) ([]image.Image, error) {
	users, err := store.Users()
	if err != nil {
		return nil, err
	}
	exists := map[string]bool{}
	for _, p := range pools {
		user := User(server, p.ID)
		if exists[user] = p.Spec.Kind == sandpool.CustomContainer; !exists[user] ||
			p.ImageDigest == "" {
			continue
		}
		if !shared || slices.Contains(users, user) {
			if err := store.Use(user, p.ImageDigest); err != nil {
				return nil, err
			}
		}
	}
	for _, user := range users {
		own := strings.HasPrefix(user, userPrefix+server+" ") || !shared &&
			strings.HasPrefix(user, userPrefix)
		if own && !exists[user] {
			if err := store.Use(user); err != nil {
				return nil, err
			}
		}
	}
	if shared {
		_, err := store.EndUses(time.Now().Add(-image.UseLife))
		return nil, err
	}
	return store.Prune(func(i image.Image) bool {
		local := slices.ContainsFunc(i.References, func(r string) bool {
			return strings.HasPrefix(r, "local:")
		})
		return i.Manifest == "" || local || time.Since(i.Used) < keep
	})
}
