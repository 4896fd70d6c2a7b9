package issuer

import (
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// Register adds the routes for those who have signed in.
func (i *Issuer) Register(handle func(pattern string,
	fn func(http.ResponseWriter, *http.Request) error)) {
	handle("POST /sandpool/devices", i.approve)
	handle("GET /sandpool/issuer/keys", i.listKeys)
	handle("POST /sandpool/issuer/keys", i.makeKey)
}

// listKeys answers the keys, the last one first.
func (i *Issuer) listKeys(w http.ResponseWriter, r *http.Request) error {
	if err := auth.Require(r.Context(), auth.ManageTokens, sandpool.Scope{}); err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, i.keys.list())
}

// makeKey makes the next key.
func (i *Issuer) makeKey(w http.ResponseWriter, r *http.Request) error {
	if err := auth.Require(r.Context(), auth.ManageTokens, sandpool.Scope{}); err != nil {
		return err
	}
	var body api.IssuerKeyRequest
	if err := arm.DecodeJSON(w, r, maxForm, &body); err != nil {
		return err
	}
	if err := i.keys.rotate(r.Context(), body.Drop); err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusCreated, i.keys.list())
}

// list is what people are told of keys.
func (k *Keys) list() (out api.IssuerKeys) {
	now, signing := k.o.Now(), k.signing()
	for _, each := range k.ring.Load().keys {
		row := api.IssuerKey{ID: each.id, State: api.IssuerKeyVerifies,
			CreatedAt: moment(each.made), SignsFrom: moment(each.from), EndsAt: moment(each.ends)}
		switch {
		case !each.verifies(now):
			continue
		case each == signing:
			row.State = api.IssuerKeySigns
		case each.number > signing.number:
			row.State = api.IssuerKeyNext
		}
		out.Value = append(out.Value, row)
	}
	return out
}

// moment is a time in an answer; empty if it is not known.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
