package sandpool

import "time"

// Refusal is something that a sandbox tried to reach and was not allowed to.
type Refusal struct {
	Time time.Time // of the last try
	// Host is a name that was asked for, or an address.
	Host     string
	Port     uint16 // zero for a name
	Protocol string // "tcp", "udp", "dns", or a protocol's number
	Reason   string // in a sentence; empty if only the packet is known
	Count    int64
}

// Refusals is what a sandbox was refused.
type Refusals struct {
	Packets int64     // that its policy did not allow
	Names   int64     // that were asked for and not answered
	Recent  []Refusal // the last of them, newest first; bounded
}

// Add counts what another sandbox was refused, and keeps the latest of both.
func (r *Refusals) Add(o Refusals, keep int) {
	r.Packets += o.Packets
	r.Names += o.Names
	merged := make([]Refusal, 0, len(r.Recent)+len(o.Recent))
	a, b := r.Recent, o.Recent
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].Time.After(b[0].Time) {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	r.Recent = merged[:min(len(merged), keep)]
}
