package usage

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// slowRows is a store that takes all the time that an answer may for anybody but ann.
type slowRows struct{ store.Usages }

func (slowRows) Usage(ctx context.Context, _ store.UsageQuery,
	_ func(sandpool.Usage) error) error {
	if who, _ := auth.FromContext(ctx); who.Subject == "token:ann" {
		return nil
	}
	<-ctx.Done()
	return errors.New("interrupted")
}

// TestTurns: who asks without pause, or as many to whom nobody has given a role, keeps nobody else
// from an answer, and hears that it asks too much.
func TestTurns(t *testing.T) {
	for name, greedy := range map[string][]auth.Principal{
		"one caller": {granted("token:eve", auth.Reader, sandpool.Scope{})},
		"without a role": {{Subject: "oidc:https://x#1"}, {Subject: "oidc:https://x#2"},
			{Subject: "oidc:https://x#3"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := NewReader(slowRows{})
			refused := make(chan int, 6)
			for i := range cap(refused) {
				go func() {
					refused <- ask(t, d, greedy[i%len(greedy)], "/sandpool/usage").Code
				}()
			}
			synctest.Wait()
			began := time.Now()
			if w := ask(t, d, granted("token:ann", auth.Reader, sandpool.Scope{}),
				"/sandpool/usage"); w.Code != 200 || time.Since(began) > 0 {
				t.Errorf("%s: another gets %d %s after %s", name, w.Code, w.Body,
					time.Since(began))
			}
			for range cap(refused) {
				if code := <-refused; code != 503 {
					t.Errorf("%s: %d", name, code)
				}
			}
		})
	}
}
