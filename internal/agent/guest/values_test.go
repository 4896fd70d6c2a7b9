package guest_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
)

// large makes values of which no more than a part has room in an answer.
const large = `import array, collections, dataclasses, sys, types
import numpy, pandas
numpy.set_printoptions(threshold=sys.maxsize)
pandas.set_option("display.max_rows", None, "display.max_columns", None)
kept = 1
numbers = list(range(3_000_000))
table = dict.fromkeys(numbers, 1)
@dataclasses.dataclass
class Holder:
    held: object
class Endless:
    def __repr__(self):
        while True: pass
class Stubborn:
    def _repr_html_(self):
        while True: pass
    def __repr__(self): return "stubborn"
class Growing:
    def __repr__(self):
        mine = []
        while True: mine.append(bytearray(1 << 20))
`

// TestBoundedValues: what is shown of a value takes bounded time and memory and says that it is
// not the whole, whatever its size, and the kernel keeps its state.
func TestBoundedValues(t *testing.T) {
	s := start(t)
	if res := s.run(t, large); res.Error != nil {
		t.Fatal(res.Error.Traceback)
	}
	for _, c := range []struct{ code, begin, end string }{
		{"numbers", "[0,\n 1,", "...]"},
		{"table", "{0: 1,", "...}"},
		{"set(numbers)", "{0,\n 1,", "...}"},
		{"table.values()", "dict_values([1, 1,", ", ...])"},
		{"table.keys()", "dict_keys([0, 1,", ", ...])"},
		{"table.items()", "dict_items([(0, 1), (1, 1),", ", ...])"},
		// Either too long or, where the processor has others to serve, too slow.
		{"[[numbers] * 500] * 500", "[[[0,", " ...]"},
		{"{i: [numbers] * 500 for i in range(500)}", "{0: [[0,", " ...]"},
		{"['x' * 1_000_000] * 900", "['xxx", "at most 1048576 characters ...]"},
		{"['\\0' * 100_000_000]", "['\\x00", "characters left out ...]"},
		{"'\\0' * 100_000_000", "'\\x00", "characters left out ...]"},
		{"b'\\0' * 100_000_000", "b'\\x00", "characters left out ...]"},
		{"bytearray(100_000_000)", "bytearray(b'\\x00", "characters left out ...]"},
		{"collections.deque(numbers)", "deque([0,", "...])"},
		{"collections.ChainMap(table)", "ChainMap({0: 1", " ...]"},
		{"types.MappingProxyType(table)", "mappingproxy({0: 1,", "...})"},
		{"array.array('d', numbers)", "array('d', [0.0", " ...]"},
		{"Holder(numbers)", "Holder(held=[0", " ...]"},
		{"Holder([numbers] * 200)", "<Holder object", ">"},
		{"Endless()", "<Endless object", "processor time>"},
		{"[1, Endless()]", "[1,", "processor time ...]"},
		{"Growing()", "<Growing object", ">"},
		{"Stubborn()", "stubborn", "stubborn"},
		{"display(Endless())", "", ""},
		{"numpy.zeros((3000, 3000))", "array([[0., 0., 0., ..., 0.", "shape=(3000, 3000))"},
		{"numpy.array(numbers, dtype=object)", "array([0, 1, 2, ..., ", "dtype=object)"},
		{"pandas.DataFrame({'a': numbers})", "               a\n0              0\n",
			"[3000000 rows x 1 columns]"},
		{"pandas.DataFrame(numpy.zeros((3, 300_000)))", "   0       1", "columns]"},
		{"pandas.Series(numbers)", "0                0\n", "Length: 3000000, dtype: int64"},
		{"sys.set_int_max_str_digits(0)\n1 << 60_000_000", "<a number of about 18061", " digits>"},
	} {
		res := s.run(t, c.code)
		text := strings.TrimSpace(res.Text)
		if res.Outcome != agent.OK || !strings.HasPrefix(res.Text, c.begin) ||
			!strings.HasSuffix(text, c.end) || len(text) > 1<<20 {
			t.Errorf("%s: %s, error %+v, %d bytes: %q … %q", c.code, res.Outcome, res.Error,
				len(text), head(text), text[max(0, len(text)-100):])
		}
		if res := s.run(t, "kept"); res.Text != "1" || res.KernelRestarted {
			t.Fatalf("after %s: %+v, error %+v", c.code, res, res.Error)
		}
	}
}

// TestOrdinaryValues: what has room is shown as IPython and the libraries show it.
func TestOrdinaryValues(t *testing.T) {
	s := start(t)
	if res := s.run(t, large); res.Error != nil {
		t.Fatal(res.Error.Traceback)
	}
	for code, want := range map[string]string{
		"{}.values()":                   "dict_values([])",
		"dict(a=[1]).items()":           "dict_items([('a', [1])])",
		"bytearray(b'x')":               "bytearray(b'x')",
		"True":                          "True",
		"[True, 2**70, 'é', b'a', 1.5]": "[True, 1180591620717411303424, 'é', b'a', 1.5]",
		"Holder([1, 2])":                "Holder(held=[1, 2])",
		"numpy.arange(3)":               "array([0, 1, 2])",
		"str(numpy.arange(2000)) in repr(numpy.arange(2000)) or 1": "1",
		"pandas.DataFrame({'a': range(100)})":                      "",
		"pandas.Series([1])":                                       "0    1\ndtype: int64",
	} {
		res := s.run(t, code)
		if want == "" {
			want = strings.TrimSuffix(s.run(t, "print("+code+")").Stdout, "\n")
		}
		if res.Text != want {
			t.Errorf("%s: %q, want %q", code, res.Text, want)
		}
	}
	if res := s.run(t, "%precision 2\n3.14159"); res.Text != "3.14" {
		t.Errorf("with a precision: %q", res.Text)
	}
	res := s.run(t, "pandas.DataFrame({'a': range(100)})")
	if len(res.Value) < 2 || strings.Count(res.Value["text/html"], "<tr") != 101 {
		t.Errorf("a table of 100 rows: %v", res.Value)
	}
}
