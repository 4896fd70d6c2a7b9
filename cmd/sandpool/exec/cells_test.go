package exec

import (
	"strings"
	"testing"
)

// TestCells types cells line by line: each is open until its last line, and then it is not.
func TestCells(t *testing.T) {
	for kernel, cells := range map[string][]string{
		"python": {"1", "x = [1,\n2]", "f(a,\n  b[1:\n  ])", "def f():\n    return 1\n", "for i in x:\n  i\n",
			"if x: pass", "@a\ndef f(): pass\n", "'''a\n\nb'''", "x = '''(\n''' + \"\"\"\\\"\"\"\n\"\"\"",
			"'a # (b'", "1 # (:", "x = {\n 'a': 1,\n}", "a = 1 + \\\n2", "'unended", ")", "!ls (", "%time x",
			"%%bash\nls\nif\n", "lambda x: (\nx)", "with a as b, \\\n c:\n  d\n", "class A:\n  '''b\n\nc'''\n  d = 1\n",
			"try:\n  x\nexcept:\n  y\n", "if x:  # why\n  y\n", "print(f'{x:>4}')", "'a\\\nb'", "x[1:2]", "async def f():\n  await x\n"},
		"node": {"1", "f(\n1)", "function f() {\nreturn 1\n}", "`a\n${b + `c\n`}\n`", "'('", "a // (", "/* a\nb */ 1",
			"/[(/]/.test(a)", "a / b / (\nc)", "x = {\n}", "const f = (a) => {\n}", "'unended", "}", "return /(/",
			"`${ {\na: 1} }`", "a = '\\'('", "[1, 2\n]", "let s = \"a\" // '"},
		"shell": {"ls", "ls \\\n-l", "echo 'a\nb'", "echo \"a\n$(b)\"", "if true\nthen\necho a\nfi", "for x in a b; do echo $x; done",
			"for x in a\ndo\necho\ndone", "while read a\ndo b\ndone < c", "case $x in\na) b;;\nesac", "f() {\necho a\n}",
			"cat <<EOF\na'\nEOF", "cat <<-'E' | b\n$(\n\tE", "a &&\nb", "a |\nb", "(a\nb)", "echo if do { (a\n)", "echo # '",
			"x=$(\nls)", "cat <<< a", "`a\nb`", "echo it\\'s", "{ a\n}", "a & b", "echo ${a:-b c}", "! if a; then b; fi"},
		"ir": {"1", "f(\n)", "a \\\nb"},
	} {
		l := languageOf(kernel)
		for _, cell := range cells {
			lines := strings.SplitAfter(cell+"\n", "\n")
			lines = lines[:len(lines)-1]
			for i := range lines {
				text := strings.Join(lines[:i+1], "")
				if open := l.open(text); open != (i < len(lines)-1) {
					t.Errorf("%s: after %q the cell is open: %v", kernel, text, open)
				}
			}
		}
	}
}

// FuzzCells: nothing that somebody types ends the program.
func FuzzCells(f *testing.F) {
	f.Add("\\")
	f.Add("cat <<")
	f.Add("'''\\")
	f.Add("`${/[")
	f.Fuzz(func(_ *testing.T, text string) {
		for _, kernel := range []string{"python", "node", "shell", "x"} {
			languageOf(kernel).open(text + "\n")
		}
	})
}
