package event

// ring keeps the newest events of one kind, oldest first.
type ring struct {
	events []Event // from next on, once it is full
	next   int     // where the next event goes, once it is full
	most   int
	// gone is the greatest number of an event that is not kept any more.
	gone uint64
}

func (r *ring) add(e Event) {
	if len(r.events) < r.most {
		r.events = append(r.events, e)
		return
	}
	r.gone = r.events[r.next].Seq
	r.events[r.next] = e
	r.next = (r.next + 1) % r.most
}

// after returns at most limit events whose number is greater than seq, the oldest first.
func (r *ring) after(seq uint64, limit int) []Event {
	n := len(r.events)
	at := func(i int) Event { return r.events[(r.next+i)%n] }
	low, high := 0, n // binary search: numbers grow
	for low < high {
		if mid := (low + high) / 2; at(mid).Seq > seq {
			high = mid
		} else {
			low = mid + 1
		}
	}
	var out []Event
	for i := low; i < n && len(out) < limit; i++ {
		out = append(out, at(i))
	}
	return out
}
