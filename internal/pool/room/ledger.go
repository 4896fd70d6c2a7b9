package room

// Ledger is what there is room for, between two measurements. The zero Ledger has room for
// everything, and counts nothing. Its caller guards it.
type Ledger struct {
	measured bool
	left     Amount  // beyond the reserve and what is promised
	reserve  Amount  // as configured
	strain   float64 // of the machine
}

// Measure begins a new page: the machine is as m says, and promised of it is what starts and
// sessions that are there may still take. Under strain the reserve is greater.
func (l *Ledger) Measure(m Machine, reserve, promised Amount) {
	l.measured, l.reserve, l.strain = true, reserve, m.Strain(reserve)
	if l.strain >= Strained {
		reserve.Memory += int64(float64(reserve.Memory) * l.strain)
	}
	l.left = m.Left.Minus(reserve).Minus(promised)
}

// Take takes a from what is left, whether it is there or not.
func (l *Ledger) Take(a Amount) { l.left = l.left.Minus(a) }

// Give gives a back.
func (l *Ledger) Give(a Amount) { l.left = l.left.Plus(a) }

// Lacks returns the resource of which there is not enough to take a, or "".
func (l *Ledger) Lacks(a Amount) Resource { return l.Left().Minus(a).Lacks() }

// Left is what there is beyond the reserve and all promises. It is negative where sandboxes that
// run have grown beyond what was expected of them.
func (l *Ledger) Left() Amount {
	if !l.measured {
		return Endless()
	}
	return l.left
}

// Strain is the machine's, from 0 to 1.
func (l *Ledger) Strain() float64 { return l.strain }

// Slack is what a refill leaves untouched besides the size of its pool's sessions.
func (l *Ledger) Slack() Amount { return l.reserve.Over(slackShare) }

// slackShare is the part of the reserve that refills leave free, so that the machine's small
// changes do not end what was just started.
const slackShare = 8
