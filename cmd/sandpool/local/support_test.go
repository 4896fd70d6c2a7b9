package local

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for _, text := range []string{"sp_S3CRETS3CRET", "key spk_S3CRETS3CRET.",
		"store: postgres://sandpool:S3CRET@db.example/x", "Authorization: Bearer S3CRET",
		`{"password": "S3CRET", "a": 1}`, "registry_token=S3CRET", `"client-secret":"S3CRET"`} {
		got := string(redact([]byte(text)))
		if strings.Contains(got, "S3CRET") || !strings.Contains(got, "REDACTED") {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	const plain = "listen: 127.0.0.1:8720\nsandpool_up 1\ngoroutine 1 [running]:\n"
	if got := string(redact([]byte(plain))); got != plain {
		t.Errorf("what is not secret becomes %s", got)
	}
}
