package gvisor

import (
	"context"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// Check implements sandbox.Doctor.
func (e *Engine) Check(ctx context.Context) []sandbox.Requirement {
	return nil
}
