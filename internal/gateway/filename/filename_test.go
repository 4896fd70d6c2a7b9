package filename

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// TestCharsets: a name comes in the charset of a client's machine, by RFC 2047 in both its forms
// and by RFC 5987, also where the client has broken it into words within a letter.
func TestCharsets(t *testing.T) {
	for charset, want := range map[string]string{
		"gb18030": "报告 𠀀.txt", "GB2312": "销售数据.xlsx", "gbk": "报告（最终）.docx", "big5": "報告.txt",
		"Shift_JIS": "売上表ソ.csv", "euc-jp": "報告.txt", "iso-2022-jp": "報告書.txt",
		"euc-kr": "보고서.txt", "ks_c_5601-1987": "보고서.txt", "koi8-r": "отчёт.txt",
		"koi8-u":       "звіт.txt",
		"windows-1251": "отчёт.txt", "windows-1252": "„Maß“ – 5 €.txt", "windows-1255": "דוח.txt",
		"windows-1256": "تقرير.txt", "windows-874": "รายงาน.txt", "iso-8859-2": "zpráva.txt",
		"iso-8859-15": "œuvre €.txt", "iso-8859-1": "grüße.txt", "utf-8": "报告 é.txt",
		"UTF-16BE": "é.txt",
		"us-ascii": "a.txt",
	} {
		encoding, err := htmlindex.Get(charset)
		if err != nil {
			t.Fatal(charset, err)
		}
		raw, err := encoding.NewEncoder().String(want)
		if err != nil {
			t.Fatal(charset, err)
		}
		base := base64.StdEncoding.EncodeToString
		q := ""
		for i := range len(raw) {
			q += fmt.Sprintf("=%02X", raw[i])
		}
		half := len(raw) / 2
		for _, header := range []string{
			`filename="=?` + charset + `?B?` + base([]byte(raw)) + `?="`,
			`filename="=?` + strings.ToUpper(charset) + `?b?` + base([]byte(raw)) + `?="`,
			`filename==?` + charset + `*zh?Q?` + q + `?=`,
			`filename="=?` + charset + `?B?` + base([]byte(raw[:half])) + "?=  =?" + charset +
				"?B?" + base([]byte(raw[half:])) + `?="`,
			`filename="=?` + charset + `?Q?` + q[:3*half] + "?= =?" + charset + "?B?" +
				base([]byte(raw[half:])) + `?="`,
			`filename*=` + charset + `''` + url.PathEscape(raw),
			`filename="x.txt"; filename*=` + charset + `'zh-CN'` + url.PathEscape(raw),
		} {
			if got := Of(`form-data; name="file"; `+header, ""); got != want {
				t.Errorf("%s: %q, want %q", header, got, want)
			}
		}
	}
}

// TestAsItCame: what cannot be decoded whole is the name as it came.
func TestAsItCame(t *testing.T) {
	for _, name := range []string{
		"=?nothing?B?xg==?=", "=?utf-7?B?xg==?=", "=?utf-8?B?ISE?=", "=?utf-8?B?/w==?=",
		"=?gb18030?B?gQ==?=", "=?iso-2022-kr?B?xg==?=", "=?gb18030?X?abc?=", "=?gb18030?B?",
		"=??B?xg==?=",
		"=?", "??=", "a =? b.txt", "=?big5?B?" + strings.Repeat("pEg=", 20_000) + "?=",
	} {
		if got := Of(`form-data; name="file"; filename="`+name+`"`, ""); got != name {
			t.Errorf("%.80q: %.80q", name, got)
		}
	}
	mixed := `form-data; filename="=?gb18030?B?sai45g==?= =?koi8-r?B?xg==?="`
	if got := Of(mixed, ""); got != "报告ф" {
		t.Errorf("words of two charsets: %q", got)
	}
}

// FuzzOf: whatever comes, a name comes back, and what was decoded is UTF-8.
func FuzzOf(f *testing.F) {
	f.Add(`form-data; name="file"; filename="=?gb18030?B?xg==?="`)
	f.Add(`form-data; name="file"; filename*=koi8-r''%C6`)
	f.Add(`form-data; filename==?big5?Q?=A4=48?=`)
	f.Fuzz(func(t *testing.T, header string) {
		name := Of(header, "aiohttp/3")
		plain := utf8.ValidString(header) && !strings.Contains(header, "%")
		if plain && !utf8.ValidString(name) {
			t.Errorf("%q: %q", header, name)
		}
	})
}
