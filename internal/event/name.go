package event

// Name says what happened. Names are part of the API: they are never changed, only added.
type Name string

// Stream is the kind of record that an event belongs to. The names are those of the
// diagnostic logs of Azure's managed environments, so that queries and dashboards move.
type Stream string

// The streams.
const (
	// Lifecycle is what happens to sessions.
	Lifecycle Stream = "AppEnvSessionLifecycleLogs"
	// PoolEvents is what happens to pools and to the sandboxes that stand ready.
	PoolEvents Stream = "AppEnvSessionPoolEventLogs"
	// Server is what happens to the server as a whole.
	Server Stream = "SandpoolServerLogs"
)

// Level says how much an event matters.
type Level int

// The levels.
const (
	// Debug is for those who count: it happens all the time.
	Debug Level = iota
	// Info is a change that somebody wanted.
	Info
	// Warning is something that went wrong and is mended or tried again.
	Warning
	// Error is something that an operator has to mend.
	Error
)

func (l Level) String() string { return [...]string{"debug", "info", "warning", "error"}[l] }

// What happens to pools.
const (
	// PoolCreated, PoolUpdated: a request has made or changed a pool. By is who asked.
	PoolCreated Name = "PoolCreated"
	PoolUpdated Name = "PoolUpdated"
	// PoolDeleting: a request has begun the deletion; PoolDeleted: nothing is left.
	PoolDeleting Name = "PoolDeleting"
	PoolDeleted  Name = "PoolDeleted"
	// PoolPreparing: a step of making what sandboxes start from; Outcome names it.
	PoolPreparing Name = "PoolPreparing"
	// PoolReady: sandboxes can be started. PoolFailed: they cannot, and it is tried again.
	PoolReady  Name = "PoolReady"
	PoolFailed Name = "PoolFailed"
	// PoolRenewed: what sandboxes start from has changed under the pool (a newer image, another
	// agent).
	PoolRenewed Name = "PoolRenewed"
	// PoolNotRenewed: an update had the image looked up again, and it cannot be had; the pool goes
	// on with the one that it has.
	PoolNotRenewed Name = "PoolNotRenewed"
	// PoolRolled: after a change no unclaimed sandbox is left of what was before. Count is the
	// revision that the pool has now.
	PoolRolled Name = "PoolRolled"
	// ImagePulled: a pool's image has come from its registry. Took is the pull, Count its bytes.
	ImagePulled Name = "ImagePulled"
	// PoolLost: another server owns the pool now. PoolTaken: this one has taken it over.
	PoolLost  Name = "PoolLost"
	PoolTaken Name = "PoolTaken"
	// PoolUnsaved: the pool's state could not be written to the store, and is tried again.
	PoolUnsaved Name = "PoolUnsaved"
)

// What happens to sandboxes.
const (
	// SandboxStarted: a sandbox is ready. Took is the start.
	SandboxStarted Name = "SandboxStarted"
	// SandboxNotStarted: a start went wrong.
	SandboxNotStarted Name = "SandboxNotStarted"
	// SandboxSlow: the snapshot's working set is not known, so sandboxes start slower than they
	// could.
	SandboxSlow Name = "SandboxSlow"
	// SandboxEnded: a sandbox ended by itself. Outcome is how: "exited", "killed", "out of memory".
	SandboxEnded Name = "SandboxEnded"
	// SandboxSick: a sandbox did not pass its liveness check, and is ended.
	SandboxSick Name = "SandboxSick"
	// ProbeFailed: a sandbox did not pass one attempt of its liveness check. Count is how many that
	// were in a row.
	ProbeFailed Name = "ProbeFailed"
	// SandboxStopped: a sandbox that was told to stop is gone.
	SandboxStopped Name = "SandboxStopped"
	// SandboxNotStopped: it could not be stopped, and it is tried again.
	SandboxNotStopped Name = "SandboxNotStopped"
	// SandboxUnwatched: the engine cannot say whether a sandbox still runs; it is asked again.
	SandboxUnwatched Name = "SandboxUnwatched"
	// SandboxAdopted, SandboxDropped: the server found a sandbox of an earlier run, and keeps it or
	// not.
	SandboxAdopted Name = "SandboxAdopted"
	SandboxDropped Name = "SandboxDropped"
	// SandboxStray: the engine has a sandbox that the store does not know; it is stopped.
	SandboxStray Name = "SandboxStray"
	// NetworkUnchanged: a sandbox may still reach what its pool says no more; it is tried again.
	NetworkUnchanged Name = "NetworkUnchanged"
	// EgressRefused: sandboxes tried to reach what their pool's policy does not allow. Count is how
	// often since the last of these events, Sandbox which one did so last, and Message what it was.
	// There is one for each pool in 10 seconds, however much is tried.
	EgressRefused Name = "EgressRefused"
	// SandboxUnsaved: the end of a sandbox could not be written to the store, and is tried again.
	SandboxUnsaved Name = "SandboxUnsaved"
)

// What happens to sessions.
const (
	// SessionAllocated: an identifier got a sandbox. Outcome is "ready" or "new"; Took is the wait.
	SessionAllocated Name = "SessionAllocated"
	// SessionRefused: the pool has its maximum of sessions. Outcome is "machine full" and what the
	// machine lacks if that is why.
	SessionRefused Name = "SessionRefused"
	// SessionQueued: a caller has waited for a slot of a full pool. Outcome is "served", "refused"
	// or "left"; Took is the wait.
	SessionQueued Name = "SessionQueued"
	// SessionEnded: a session is over. Message says why; Took is how long it lasted.
	SessionEnded Name = "SessionEnded"
	// ExecutionEnded: code has run. Outcome is how it ended; Took is the time in the sandbox.
	ExecutionEnded Name = "ExecutionEnded"
	// SessionAnswered: the first code of a session has been answered. Took is from the arrival of
	// the request that began the session.
	SessionAnswered Name = "SessionAnswered"
)

// What happens to the server.
const (
	// AdoptionFailed: what an earlier run left cannot be read; it is tried again.
	AdoptionFailed Name = "AdoptionFailed"
	// SnapshotsKept: snapshots that no pool uses could not be removed.
	SnapshotsKept Name = "SnapshotsKept"
	// SweepFailed: memory, store and engine could not be compared.
	SweepFailed Name = "SweepFailed"
	// OwnershipUnsaved: the ownership of pools could not be renewed, and it is tried again.
	OwnershipUnsaved Name = "OwnershipUnsaved"
	// UseUnsaved: when sessions were used could not be written to the store.
	UseUnsaved Name = "UseUnsaved"
	// IssuerKeyMade: the next key that signs the server's tokens was made, since the last one is
	// old. Message says which.
	IssuerKeyMade Name = "IssuerKeyMade"
	// IssuerKeysUnread: the keys could not be read from the store, or the next one not made; it is
	// tried again.
	IssuerKeysUnread Name = "IssuerKeysUnread"
	// UsageUnsaved: what sessions have used could not be written to the store, and is tried again.
	UsageUnsaved Name = "UsageUnsaved"
	// MachineFull: the machine has no room for another session, and no ready sandbox to give up.
	// Outcome is what it lacks.
	MachineFull Name = "MachineFull"
	// MachineUnmeasured: what the machine has left cannot be measured.
	MachineUnmeasured Name = "MachineUnmeasured"
	// EventsLost: a sink was too slow. Count is how many events it did not get.
	EventsLost Name = "EventsLost"
)

// kind is what is the same in all events of a name.
type kind struct {
	stream Stream
	level  Level
	text   string // for people
}

// kinds describes each name.
var kinds = map[Name]kind{
	PoolCreated:    {PoolEvents, Info, "the pool was created"},
	PoolUpdated:    {PoolEvents, Info, "the pool was changed"},
	PoolDeleting:   {PoolEvents, Info, "the pool is being deleted"},
	PoolDeleted:    {PoolEvents, Info, "the pool was deleted"},
	PoolPreparing:  {PoolEvents, Info, "preparing pool"},
	PoolReady:      {PoolEvents, Info, "the pool can be used"},
	PoolFailed:     {PoolEvents, Warning, "the pool cannot be prepared"},
	PoolRenewed:    {PoolEvents, Info, "what the pool's sandboxes start from has changed"},
	PoolNotRenewed: {PoolEvents, Warning, "the pool's image cannot be looked up again"},
	PoolRolled:     {PoolEvents, Info, "nothing unclaimed is left of what the pool was before"},
	ImagePulled:    {PoolEvents, Info, "the pool's image was pulled"},
	PoolLost:       {PoolEvents, Warning, "another server owns the pool now"},
	PoolTaken:      {PoolEvents, Info, "the pool is owned by this server"},
	PoolUnsaved:    {PoolEvents, Warning, "the pool's state cannot be recorded"},

	SandboxStarted:    {PoolEvents, Debug, "a sandbox was started"},
	SandboxNotStarted: {PoolEvents, Warning, "a sandbox did not start"},
	SandboxSlow:       {PoolEvents, Warning, "sandboxes will start slower than they could"},
	SandboxEnded:      {PoolEvents, Warning, "a sandbox ended by itself"},
	SandboxSick:       {PoolEvents, Warning, "a sandbox did not pass its liveness check"},
	ProbeFailed: {PoolEvents, Debug,
		"a sandbox did not pass an attempt of its liveness check"},
	SandboxStopped:    {PoolEvents, Debug, "a sandbox was stopped"},
	SandboxNotStopped: {PoolEvents, Warning, "a sandbox cannot be stopped"},
	SandboxUnwatched:  {PoolEvents, Warning, "a sandbox cannot be watched"},
	SandboxAdopted:    {PoolEvents, Debug, "a sandbox of an earlier run is kept"},
	SandboxDropped:    {PoolEvents, Info, "a sandbox of an earlier run is stopped"},
	SandboxStray:      {Server, Warning, "a sandbox without a row is stopped"},
	NetworkUnchanged:  {PoolEvents, Error, "what a sandbox may reach was not changed"},
	EgressRefused:     {PoolEvents, Info, "sandboxes were refused the network"},
	SandboxUnsaved:    {PoolEvents, Warning, "the end of a sandbox cannot be recorded"},

	SessionAllocated: {Lifecycle, Debug, "a session was allocated"},
	SessionRefused:   {Lifecycle, Debug, "a session was refused"},
	SessionQueued:    {Lifecycle, Debug, "a caller waited for a slot"},
	SessionEnded:     {Lifecycle, Debug, "a session ended"},
	ExecutionEnded:   {Lifecycle, Debug, "an execution ended"},
	SessionAnswered:  {Lifecycle, Debug, "the first code of a session was answered"},

	AdoptionFailed:    {Server, Error, "sandboxes of an earlier run cannot be adopted"},
	SnapshotsKept:     {Server, Warning, "snapshots that no pool uses cannot be removed"},
	SweepFailed:       {Server, Warning, "memory, store and engine cannot be compared"},
	OwnershipUnsaved:  {Server, Warning, "the ownership of pools cannot be renewed"},
	UseUnsaved:        {Server, Warning, "the use of sessions cannot be recorded"},
	IssuerKeyMade:     {Server, Info, "another key will sign the server's tokens"},
	IssuerKeysUnread:  {Server, Warning, "the keys that sign tokens cannot be read"},
	UsageUnsaved:      {Server, Warning, "what sessions have used cannot be recorded"},
	MachineFull:       {Server, Warning, "the machine has no room for another session"},
	MachineUnmeasured: {Server, Warning, "what the machine has left cannot be measured"},
	EventsLost:        {Server, Warning, "events were lost before they were passed on"},
}

// Stream is the stream of events of the name.
func (n Name) Stream() Stream { return kinds[n].stream }

// Level is the level of events of the name.
func (n Name) Level() Level { return kinds[n].level }

// Text says in a few words what events of the name are.
func (n Name) Text() string { return kinds[n].text }
