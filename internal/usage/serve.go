package usage

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

const (
	// pageSize is the most records of one answer.
	pageSize = 1000
	// answerTime bounds one answer.
	answerTime = 30 * time.Second
	// maxAnswers bounds those that are made at the same time: each may read all records, and a
	// store has few connections for all that reads.
	maxAnswers = 2
)

// Reader answers who used what. Use NewReader.
type Reader struct {
	// Key is the one that records were written under; see Key. It is set before the Reader is used.
	Key Key

	store store.Usages
	turns *turns
	now   func() time.Time
}

// NewReader returns a Reader of the records in rows.
func NewReader(rows store.Usages) *Reader {
	return &Reader{store: rows, turns: newTurns(), now: time.Now}
}

// Register serves the records on a mux. Callers see their own, and those of the scopes whose usage
// they may read.
func (d *Reader) Register(handle func(pattern string,
	fn func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /sandpool/usage", d.totals)
	handle("GET /sandpool/usage/records", d.records)
}

func (d *Reader) totals(w http.ResponseWriter, r *http.Request) error {
	q, err := d.question(r)
	if err != nil {
		return err
	}
	t := &totals{period: q.period, groups: map[group]*sum{}}
	values := arm.Query{Raw: r.URL.RawQuery}
	by, err := values.Get(api.ByParameter)
	if err != nil {
		return err
	}
	step, err := values.Get(api.StepParameter)
	if err != nil {
		return err
	}
	for by := range strings.SplitSeq(by, ",") {
		switch by {
		case "":
		case api.UsageByPool:
			t.pool = true
		case api.UsageByPrincipal:
			t.principal = true
		case api.UsageByIdentifier:
			t.identifier = true
		default:
			return arm.WrongParameter(api.ByParameter, by, "some of pool, principal and identifier")
		}
	}
	if t.step, err = d.step(step, q.period); err != nil {
		return err
	}
	if err := d.read(r.Context(), q, t.add); err != nil {
		return err
	}
	out := api.UsageTotals{Value: t.value()}
	if !q.since.IsZero() {
		out.Since = &q.since
	}
	if !q.until.IsZero() {
		out.Until = &q.until
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// step reads the length of steps, of which there may not be too many.
func (d *Reader) step(name string, p period) (time.Duration, error) {
	step := map[string]time.Duration{"": 0, api.UsageByHour: time.Hour,
		api.UsageByDay: 24 * time.Hour}
	length, ok := step[name]
	if !ok {
		return 0, arm.WrongParameter(api.StepParameter, name, "hour or day, or none")
	}
	if p.until.IsZero() {
		p.until = d.now()
	}
	if length > 0 && (p.since.IsZero() || p.until.Sub(p.since) > maxSteps*length) {
		return 0, sandpool.Errorf(sandpool.Invalid, "TooManySteps", api.SinceParameter,
			"The time has more than %d steps. Give %s, and %s if need be, so that there are fewer, "+
				"or ask for longer steps.", maxSteps, api.SinceParameter, api.UntilParameter)
	}
	return length, nil
}

var errEnough = errors.New("enough")

func (d *Reader) records(w http.ResponseWriter, r *http.Request) error {
	q, err := d.question(r)
	if err != nil {
		return err
	}
	out := api.UsageRecords{Value: []api.UsageRecord{}}
	err = d.read(r.Context(), q, func(u sandpool.Usage) error {
		if _, _, ok := q.share(u); !ok {
			return nil
		}
		if len(out.Value) == q.limit {
			out.Next = out.Value[q.limit-1].Number
			return errEnough
		}
		out.Value = append(out.Value, recordOf(u))
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// read calls each for the records that q wants and the caller may see.
func (d *Reader) read(ctx context.Context, q question, each func(sandpool.Usage) error) error {
	who, ok := auth.FromContext(ctx)
	if !ok {
		return auth.Require(ctx, auth.ReadUsage, sandpool.Scope{})
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	asks := who.Subject
	if len(who.Grants) == 0 {
		asks = "" // with a public issuer anybody can be many of these
	}
	if err := d.turns.take(ctx, asks); err != nil {
		return &sandpool.Error{Class: sandpool.Unavailable, RetryAfter: answerTime, Err: err,
			Message: "Others are reading the records of usage, or you are already; try again."}
	}
	defer d.turns.leave(asks)
	may := newSight(who, d.Key)
	err := d.store.Usage(ctx, store.UsageQuery{Since: q.since, Until: q.until, After: q.after},
		func(u sandpool.Usage) error {
			if q.wants(u) && may.see(u) {
				return each(u)
			}
			return nil
		})
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &sandpool.Error{Class: sandpool.Unavailable, RetryAfter: answerTime, Err: err,
			Message: "There are too many records for the time that an answer may take; ask for a " +
				"shorter time, or try again."}
	}
	return err
}

// sight is which records a caller sees.
type sight struct {
	who   auth.Principal
	pools map[string]bool // by PoolID.Key
	// one is sessions that the caller has a grant for, by pool and the identifier's hash.
	one map[[2]string]bool
}

func newSight(who auth.Principal, k Key) *sight {
	s := &sight{who: who, pools: map[string]bool{}, one: map[[2]string]bool{}}
	for _, g := range who.Grants {
		if g.Scope.Identifier == "" || g.Scope.Prefix {
			continue // of a beginning the hash says nothing
		}
		if auth.Allow(who, auth.ReadUsage, g.Scope) == nil {
			for _, name := range k.names(sandpool.Identifier(g.Scope.Identifier).Hash()) {
				s.one[[2]string{g.Scope.PoolID().Key(), name}] = true
			}
		}
	}
	return s
}

func (s *sight) see(u sandpool.Usage) bool {
	if u.By != "" && u.By == s.who.Subject {
		return true
	}
	key := u.Pool.Key()
	all, known := s.pools[key]
	if !known {
		all = auth.Allow(s.who, auth.ReadUsage, u.Pool.Scope()) == nil
		s.pools[key] = all
	}
	return all || s.one[[2]string{key, u.Identifier}]
}

// question is what a caller asks for.
type question struct {
	period
	scope       sandpool.Scope
	who         string
	identifiers []string // names of one identifier; nil means all
	after       int64
	limit       int
}

func (q question) wants(u sandpool.Usage) bool {
	return (q.who == "" || q.who == u.By) &&
		(q.identifiers == nil || slices.Contains(q.identifiers, u.Identifier)) &&
		q.scope.Contains(u.Pool.Scope())
}

func (d *Reader) question(r *http.Request) (q question, err error) {
	values := arm.Query{Raw: r.URL.RawQuery}
	if q.who, err = values.Get(api.WhoParameter); err != nil {
		return q, err
	}
	hash, err := values.Get(api.IdentifierHashParameter)
	if err != nil {
		return q, err
	}
	if len(hash) == 64 {
		q.identifiers = d.Key.names(strings.ToLower(hash))
	} else if hash != "" {
		return q, arm.WrongParameter(api.IdentifierHashParameter, hash,
			"SHA-256 of an identifier, in 64 hexadecimal digits")
	}
	if q.scope, err = scopeOf(values); err != nil {
		return q, err
	}
	if q.since, err = values.Time(api.SinceParameter); err != nil {
		return q, err
	}
	if q.until, err = values.Time(api.UntilParameter); err != nil {
		return q, err
	}
	if q.since, q.until = q.since.UTC(), q.until.UTC(); !q.until.IsZero() &&
		!q.since.Before(q.until) {
		return q, arm.WrongParameter(api.UntilParameter, q.until.Format(time.RFC3339),
			"a time after "+api.SinceParameter)
	}
	limit, err := values.Number(api.LimitParameter, pageSize, 1, pageSize)
	if err != nil {
		return q, err
	}
	after, err := values.Number(api.AfterParameter, 0, 0, math.MaxInt64)
	q.limit, q.after = int(limit), int64(after)
	return q, err
}

// scopeOf is the scope that is asked for, which may be everything.
func scopeOf(values arm.Query) (sandpool.Scope, error) {
	text, err := values.Get(api.ScopeParameter)
	if err != nil || text == "" {
		return sandpool.Scope{}, err
	}
	scope, err := sandpool.ParseScope(text)
	if err == nil && scope.Identifier != "" {
		err = arm.WrongParameter(api.ScopeParameter, "that of sessions",
			"that of a pool or above, and "+api.IdentifierHashParameter)
	}
	return scope, err
}
