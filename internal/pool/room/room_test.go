package room

import (
	"testing"
)

const mb = 1 << 20

func TestStrain(t *testing.T) {
	reserve := Amount{Memory: 1000}
	for _, test := range []struct {
		why      string
		left     int64
		pressure float64
		want     float64
	}{
		{"quiet", 500, 0, 0},
		{"near the reserve", 2000, 0.4, 0.4},
		{"a sandbox at its own limit, while the machine has plenty", 3001, 1, 0},
		{"nonsense", 0, 7, 1},
		{"nonsense", 0, -7, 0},
	} {
		m := Machine{Left: Amount{Memory: test.left}, Pressure: test.pressure}
		if got := m.Strain(reserve); got != test.want {
			t.Errorf("%s: strain is %v, want %v", test.why, got, test.want)
		}
	}
}

func TestStarts(t *testing.T) {
	for _, test := range []struct {
		limit  int
		strain float64
		want   int
	}{{8, 0, 8}, {8, 0.09, 8}, {8, 0.1, 3}, {8, 0.5, 2}, {8, 1, 1}, {1, 1, 1}} {
		if got := Starts(test.limit, test.strain); got != test.want {
			t.Errorf("Starts(%d, %v) = %d, want %d", test.limit, test.strain, got, test.want)
		}
	}
}

// What is left, is what is left of the machine without the reserve and the promises; nothing that
// is short of one resource alone fits.
func TestLedger(t *testing.T) {
	var l Ledger
	one := Amount{Memory: 100, Disk: 10, Threads: 50}
	if lack := l.Lacks(one); lack != "" {
		t.Errorf("where nothing was measured %s is lacking", lack)
	}
	for _, test := range []struct {
		why      string
		machine  Machine
		promised Amount
		want     Resource
	}{
		{"plenty", Machine{Left: Amount{1000, 1000, 1000}}, Amount{}, ""},
		{"exactly", Machine{Left: Amount{300, 110, 150}}, Amount{}, ""},
		{"memory", Machine{Left: Amount{299, 110, 150}}, Amount{}, Memory},
		{"disk", Machine{Left: Amount{300, 109, 150}}, Amount{}, Disk},
		{"threads", Machine{Left: Amount{300, 110, 149}}, Amount{}, Threads},
		{"promised", Machine{Left: Amount{1000, 1000, 1000}}, Amount{Memory: 701}, Memory},
		{"comes back", Machine{Left: Amount{200, 110, 150}}, Amount{Memory: -100}, ""},
		{"strained", Machine{Left: Amount{300, 110, 150}, Pressure: 0.5}, Amount{}, Memory},
	} {
		l.Measure(test.machine, Amount{200, 100, 100}, test.promised)
		if got := l.Lacks(one); got != test.want {
			t.Errorf("%s: %q is lacking, want %q", test.why, got, test.want)
		}
	}
	l.Measure(Machine{Left: Amount{500, 500, 500}}, Amount{}, Amount{})
	for range 5 {
		l.Take(one)
	}
	if l.Lacks(one) != Memory || l.Left() != (Amount{0, 450, 250}) {
		t.Errorf("after five %+v is left", l.Left())
	}
	l.Give(one)
	if l.Lacks(one) != "" {
		t.Error("what was given back cannot be taken")
	}
}

// A size follows sessions that take more at once, and those that take less slowly; one session of
// many that takes all that it may is not the size of the others.
func TestLearn(t *testing.T) {
	limit := Amount{Memory: 1024 * mb, Disk: 1024 * mb, Threads: 1024}
	var s Size
	if got := s.Within(limit); got != guess() {
		t.Errorf("of nothing measured %+v", got)
	}
	s = s.Learn([]Amount{{Memory: 40 * mb, Threads: 40}, {Memory: 50 * mb, Threads: 50}}, nil)
	if got := s.Within(limit); got.Ready != (Amount{Memory: 45 * mb, Threads: 45}) ||
		got.Used.Memory != 128*mb {
		t.Errorf("of ready ones measured %+v", got)
	}
	big := Size{}.Learn([]Amount{{Memory: 500 * mb, Threads: 40}}, nil)
	if got := big.Within(limit); got.Used.Memory != 1000*mb {
		t.Errorf("of large ready ones measured %+v", got)
	}
	used := []Amount{{Memory: 1000 * mb}}
	for range 19 {
		used = append(used, Amount{Memory: 110 * mb, Threads: 45})
	}
	s = s.Learn(nil, used)
	if s.Used.Memory != 110*mb || s.Used.Threads != 45 {
		t.Errorf("of sessions %+v", s.Used)
	}
	s = s.Learn(nil, []Amount{{Memory: 60 * mb}})
	if s.Used.Memory >= 110*mb || s.Used.Memory < 109*mb {
		t.Errorf("after one that takes less %+v", s.Used)
	}
	for range 5000 {
		s = s.Learn(nil, []Amount{{Memory: 60 * mb}})
	}
	if s.Used.Memory > 61*mb {
		t.Errorf("after many that take less %+v", s.Used)
	}
	if got := s.Learn(nil, nil); got != s {
		t.Errorf("without sessions %+v, before %+v", got, s)
	}
	if got := guess().Within(Amount{Memory: 32 * mb}); got.Used.Memory != 32*mb ||
		got.Ready.Memory != 32*mb || got.Used.Threads != guess().Used.Threads {
		t.Errorf("within a small limit %+v", got)
	}
}

// A promise is what a session may still grow to: never less than nothing, and a part of the limit
// beyond what is usual.
func TestPromise(t *testing.T) {
	limit := Amount{Memory: 1024 * mb, Disk: 320 * mb, Threads: 1024}
	s := Size{Ready: Amount{Memory: 40 * mb, Threads: 40},
		Used: Amount{Memory: 128 * mb, Threads: 50}}
	for _, test := range []struct{ used, want Amount }{
		{Amount{}, Amount{Memory: 128*mb + 28*mb, Disk: 10 * mb, Threads: 50}},
		{Amount{Memory: 100 * mb, Threads: 45}, Amount{Memory: 28*mb + 28*mb, Disk: 10 * mb,
			Threads: 5}},
		{Amount{Memory: 512 * mb, Threads: 60}, Amount{Memory: 16 * mb, Disk: 10 * mb}},
		{Amount{Memory: 1024 * mb, Threads: 60}, Amount{Disk: 10 * mb}},
		{Amount{Memory: 2048 * mb, Threads: 60}, Amount{Disk: 10 * mb}},
	} {
		if got := s.Promise(test.used, limit); got != test.want {
			t.Errorf("to one that takes %+v %+v is promised, want %+v", test.used, got, test.want)
		}
	}
	if got := s.Promise(Amount{}, Amount{}); got != s.Used {
		t.Errorf("without known limits %+v is promised", got)
	}
}

// A bound of all sandboxes leaves what the machine leaves, or less; one that is smaller than the
// machine's reserve leaves something, too.
func TestWithin(t *testing.T) {
	endless := Endless()
	reserve := Amount{Memory: 1000, Disk: 10, Threads: 100}
	machine := Machine{Left: Amount{5000, 500, 5000}}
	for _, test := range []struct {
		why         string
		limit, left Amount
		want        Amount // beyond the reserve
	}{
		{"nothing", endless, endless, Amount{4000, 490, 4900}},
		{"more than there is", Amount{9000, 900, 9000}, Amount{9000, 900, 9000},
			Amount{4000, 490, 4900}},
		{"a large one", Amount{4000, 900, 4000}, Amount{3000, 900, 3000}, Amount{2000, 490, 2900}},
		{"a small one", Amount{800, 900, 80}, Amount{700, 900, 70}, Amount{500, 490, 50}},
		{"a small one that is full", Amount{800, 900, 80}, Amount{100, 900, 80},
			Amount{-100, 490, 60}},
	} {
		got := machine.Within(reserve, test.limit, test.left)
		if left := got.Left.Minus(reserve); left != test.want {
			t.Errorf("%s: %+v is left, want %+v", test.why, left, test.want)
		}
	}
}
