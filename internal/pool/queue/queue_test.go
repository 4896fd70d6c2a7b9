package queue

import "testing"

func called(turn <-chan struct{}) bool {
	select {
	case <-turn:
		return true
	default:
		return false
	}
}

func TestOrder(t *testing.T) {
	var l Line
	a, b, c := l.Join("a"), l.Join("b"), l.Join("c")
	mark := l.Mark()
	ta, tb, tc := l.Wait(a, mark), l.Wait(b, mark), l.Wait(c, mark)
	l.Free()
	if !called(ta) || called(tb) || called(tc) {
		t.Fatal("the first slot is not the first's")
	}
	l.Free()
	if !called(tb) || called(tc) {
		t.Fatal("the second slot is not the second's")
	}
	l.Leave(a) // may have left without the slot: the next is called
	if !called(tc) || l.Len() != 2 {
		t.Fatal("a turn was lost with the one who left")
	}
}

func TestSlotFreedWhileAsking(t *testing.T) {
	var l Line
	mark := l.Mark()
	l.Free() // while the question is under way
	a := l.Join("a")
	if !called(l.Wait(a, mark)) {
		t.Error("a slot that came free during the question was lost")
	}
	mark = l.Mark()
	if called(l.Wait(a, mark)) {
		t.Error("called again though nothing came free")
	}
	l.Free()
	if !called(a.turn) {
		t.Error("not called a second time")
	}
}

func TestServeAndFreeAll(t *testing.T) {
	var l Line
	mark := l.Mark()
	a, b, again := l.Join("a"), l.Join("b"), l.Join("a")
	ta, tb, tagain := l.Wait(a, mark), l.Wait(b, mark), l.Wait(again, mark)
	l.Serve("a")
	if !called(ta) || !called(tagain) || called(tb) {
		t.Error("those of one identifier were not called together")
	}
	l.FreeAll()
	if !called(tb) {
		t.Error("FreeAll left one out")
	}
	l.Leave(b)
	l.Leave(b)
	if l.Len() != 2 {
		t.Errorf("%d places, want 2", l.Len())
	}
}
