package check

import (
	"errors"
	"testing"

	"github.com/shardseed/shardseed/cas"
)

func FuzzDecodeVerdict(f *testing.F) {
	for _, text := range []string{
		`{"version":1,"time":"2026-08-01T13:15:02Z","damaged":true}`, `{"version":1}`, `{"version":2,"damaged":"perhaps"}`, `{"version":0}`,
		`{"version":1,"damaged":1}`, `[]`, `null`, `{`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := decodeVerdict("commerce/0/x", data)
		switch {
		case err == nil && v.Version != verdictVersion:
			t.Errorf("got %+v", v)
		case err != nil && v != (verdict{}):
			t.Errorf("got %+v with %v", v, err)
		case err != nil && errors.Is(err, cas.ErrCorrupt) == isNewer(err):
			t.Errorf("neither damaged nor newer, or both: %v", err)
		}
	})
}
