package pool

import (
	"strings"
	"testing"
)

func TestListsAsAzWritesThem(t *testing.T) {
	for given, want := range map[string]string{
		"pool create web --env-vars A=1 B=2 --cpu 1": "pool create web --env-vars A=1 " +
			"--env-vars B=2 --cpu 1",
		"pool create --secrets a=1 b=2 web": "pool create --secrets a=1 --secrets " +
			"b=2 web",
		"pool create web --args run --port=80 8080": "pool create web --args run --port=80 8080",
		"pool create web --command sh -c --args a b c": "pool create web --command sh -c " +
			"--args a --args b --args c",
		"pool update web -s a=1 b=2 --tags k=v x=y": "pool update web -s a=1 -s b=2 --tags " +
			"k=v --tags x=y",
		"exec --env-vars A=1 B=2": "exec --env-vars A=1 B=2",
		"pool create web --image a --ready-sessions 2 x": "pool create web --image a " +
			"--ready-sessions 2 x",
	} {
		if got := strings.Join(SpreadLists(strings.Fields(given)), " "); got != want {
			t.Errorf("%s\nbecomes %s\n   want %s", given, got, want)
		}
	}
}
