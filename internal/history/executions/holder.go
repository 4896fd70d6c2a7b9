package executions

import "container/heap"

// holder is who holds a part of what is kept: everybody, a pool, a caller, or a log. Those below it
// are a heap, the one that holds the most on top.
type holder struct {
	bytes   int64
	entries int
	above   *holder // nil of everybody
	below   largest
	at      int  // its place in above.below, if it holds anything
	log     *log // nil unless it is one
}

// largest implements heap.Interface.
type largest []*holder

func (l largest) Len() int           { return len(l) }
func (l largest) Less(i, j int) bool { return l[i].bytes > l[j].bytes }
func (l largest) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].at, l[j].at = i, j
}

// Push implements heap.Interface.
func (l *largest) Push(x any) {
	h := x.(*holder)
	h.at = len(*l)
	*l = append(*l, h)
}

// Pop implements heap.Interface.
func (l *largest) Pop() any {
	last := len(*l) - 1
	h := (*l)[last]
	(*l)[last] = nil
	*l = (*l)[:last]
	return h
}

// add changes what h holds, and with it those above.
func (h *holder) add(bytes int64, entries int) {
	for ; h != nil; h = h.above {
		had := h.entries > 0
		h.bytes += bytes
		h.entries += entries
		switch up := h.above; {
		case up == nil:
		case !had && h.entries > 0:
			heap.Push(&up.below, h)
		case had && h.entries == 0:
			heap.Remove(&up.below, h.at)
		case had:
			heap.Fix(&up.below, h.at)
		}
	}
}

// oldest is the first entry of the largest log of the largest holder at each level. h holds
// something.
func (h *holder) oldest() *Entry {
	for h.log == nil {
		h = h.below[0]
	}
	return h.log.entries[0]
}
