package sandpool

import (
	"maps"
	"strings"
	"time"
)

// Defaults of a pool's place in the resource tree.
const (
	DefaultSubscription  = "00000000-0000-0000-0000-000000000000"
	DefaultResourceGroup = "default"
)

// PoolID is a pool's place in the resource tree. Azure Resource Manager
// compares such names without regard to case: compare Key, show String.
type PoolID struct {
	Subscription  string
	ResourceGroup string
	Name          string
}

// String returns the resource id,
// /subscriptions/S/resourceGroups/G/providers/Microsoft.App/sessionPools/N.
func (id PoolID) String() string {
	return "/subscriptions/" + id.Subscription + "/resourceGroups/" + id.ResourceGroup + poolsPath +
		id.Name
}

// Key returns the canonical form of the id for comparison and storage.
func (id PoolID) Key() string {
	return strings.ToLower(
		"/subscriptions/" + id.Subscription + "/resourceGroups/" + id.ResourceGroup + poolsPath +
			id.Name)
}

// ProvisioningState is where a pool is on its way from request to use.
//
//	InProgress ──▶ Succeeded ──▶ Deleting ──▶ (gone)
//	     └───────▶ Failed ───────────┘
//
// A PUT or PATCH that changes the template leads back to InProgress. A preparation that
// failed is tried again, so Failed becomes Succeeded by itself when the cause has gone; and
// Succeeded becomes Failed when a restarted server cannot prepare the template any more.
type ProvisioningState string

// The provisioning states.
const (
	InProgress ProvisioningState = "InProgress"
	Succeeded  ProvisioningState = "Succeeded"
	Failed     ProvisioningState = "Failed"
	Deleting   ProvisioningState = "Deleting"
)

// Pool is a session pool as its owner wants it, and what became of it.
type Pool struct {
	ID       PoolID
	Location string
	Tags     map[string]string
	// Spec is what its sandboxes are.
	Spec Spec
	// MaxSessions bounds sessions at the same time; ReadySessions is how many
	// unclaimed sandboxes are kept warm.
	MaxSessions   int
	ReadySessions int
	// Cooldown is the time without a request after which a session ends.
	Cooldown time.Duration

	// Revision grows with every change of Spec that makes ready sandboxes stale.
	Revision int64
	// Template names what the sandboxes of Revision are started from, as the engine
	// prepared it; empty until it has. If a restarted server prepares something else (a newer
	// image of the same name, another agent), the pool gets a new revision.
	Template string
	// ImageDigest identifies what Spec.Image meant when Template was prepared.
	ImageDigest string
	State       ProvisioningState
	// Problem says why State is Failed, or why refilling is held up, in a sentence.
	Problem string
	// Cause is Problem in words for those who may change the pool, with the last lines of a
	// sandbox that failed; empty if it is for administrators alone. It is not stored: what is
	// tried again after a restart finds it again.
	Cause string
	// Notice says what the machine lacks for what the pool wants, in a sentence. It is of the
	// moment, and not kept.
	Notice    string
	CreatedAt time.Time
	UpdatedAt time.Time // of its settings
	// SettledAt is when the preparation that State tells of ended; zero before the first.
	SettledAt time.Time
	// CreatedBy made the pool, and UpdatedBy wrote its settings last, when they changed.
	CreatedBy, UpdatedBy Author
}

// Author is who made or changed a resource. The zero Author is not known: nobody wrote down who
// changed what before there were authors.
type Author struct {
	// Name is a person's name, or the id of a program: of a token, or of a foreign application.
	Name string     `json:"name,omitempty"`
	Kind AuthorKind `json:"kind,omitempty"`
}

// AuthorKind is what an Author is, in the words of Azure Resource Manager.
type AuthorKind string

// The kinds of author.
const (
	User        AuthorKind = "User"
	Application AuthorKind = "Application"
)

// SameSettings reports whether q is set to what p is set to: a change that leads from one to the
// other changes nothing.
func (p Pool) SameSettings(q Pool) bool {
	return p.Location == q.Location && maps.Equal(p.Tags, q.Tags) && p.Spec.Same(q.Spec) &&
		p.MaxSessions == q.MaxSessions && p.ReadySessions == q.ReadySessions &&
		p.Cooldown == q.Cooldown
}

// PlainLocation is a location for comparison: "East US" and "eastus" are one.
func PlainLocation(s string) string {
	return strings.ToLower(strings.ReplaceAll(s, " ", ""))
}

// Clone returns a copy that shares nothing with p.
func (p Pool) Clone() Pool {
	p.Tags, p.Spec = maps.Clone(p.Tags), p.Spec.Clone()
	return p
}
