// Package history is what the control plane says of the histories that pools keep: it reads their
// settings in requests, and shows them.
package history

import (
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// How long an execution may be kept, in seconds.
const (
	least     = 60
	most      = 7 * 24 * 60 * 60
	byDefault = 24 * 60 * 60
)

// Codes of errors, which are those of the other properties.
const (
	invalid     = "SessionPoolInvalidProperty"
	unsupported = "SessionPoolFeatureNotSupported"
)

const (
	target          = "properties.sandpool.history"
	retentionTarget = target + ".retentionInSeconds"
)

// Parse reads whether what sessions of a pool run is kept: nil if it is not. off says that the
// server keeps it for no further pool.
func Parse(h *api.HistorySettings, kind sandpool.ContainerType, off bool) (*sandpool.History,
	*sandpool.Error) {
	if h == nil {
		return nil, nil
	}
	seconds := int64(byDefault)
	if h.RetentionInSeconds != nil {
		seconds = *h.RetentionInSeconds
	}
	switch {
	case h.Enabled == nil:
		return nil, sandpool.Errorf(sandpool.Invalid, invalid, target+".enabled",
			"%s.enabled is missing; say true to keep what sessions run, or false.", target)
	case seconds < least || seconds > most:
		return nil, sandpool.Errorf(sandpool.Invalid, invalid, retentionTarget,
			"%s is %d; use %d to %d.", retentionTarget, seconds, least, most)
	case !*h.Enabled: // a patch may have left the other setting there
		return nil, nil
	case kind == sandpool.CustomContainer:
		return nil, sandpool.Errorf(sandpool.Invalid, invalid, target,
			"%s is for code pools: what a custom container does is in its log.", target)
	case off:
		return nil, sandpool.Errorf(sandpool.Unsupported, unsupported, target,
			"%s: this server keeps no history, by its setting history_mb. Leave it out.", target)
	}
	return &sandpool.History{Retention: time.Duration(seconds) * time.Second}, nil
}

// Settings is the inverse of Parse.
func Settings(h *sandpool.History) *api.HistorySettings {
	if h == nil {
		return nil
	}
	enabled, seconds := true, int64(h.Retention/time.Second)
	return &api.HistorySettings{Enabled: &enabled, RetentionInSeconds: &seconds}
}
