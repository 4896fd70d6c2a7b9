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

// Tidy tells the store which images pools use now, and removes the container images that nothing
// uses and nothing has asked for in the time of keep: those of deleted pools, and what a changed
// pool has left when its last session has ended. Images that were built here or loaded from a file
// are not removed: no registry has them.
//
// A pool that is being changed has claimed an image that its row does not name yet. That image
// was asked for just now, so keep, which must be longer than a change may take, protects it.
func Tidy(store *image.Store, pools []sandpool.Pool, keep time.Duration) ([]image.Image, error) {
	used := map[string]string{}
	for _, p := range pools {
		if p.Spec.Kind == sandpool.CustomContainer {
			used[User(p.ID)] = p.ImageDigest
		}
	}
	users, err := store.Users()
	if err != nil {
		return nil, err
	}
	for _, user := range users {
		digest, exists := used[user]
		switch {
		case !strings.HasPrefix(user, userPrefix):
		case !exists:
			err = store.Use(user)
		case digest != "":
			err = store.Use(user, digest)
		}
		if err != nil {
			return nil, err
		}
	}
	return store.Prune(func(i image.Image) bool {
		local := slices.ContainsFunc(i.References, func(r string) bool {
			return strings.HasPrefix(r,
				"local:")
		})
		return i.Manifest == "" || local || time.Since(i.Used) < keep
	})
}
