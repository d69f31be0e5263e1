package commands

import (
	"runtime/debug"
	"testing"
)

func TestVersionOf(t *testing.T) {
	vcs := func(revision, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	tests := []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"release", debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}}, "v0.9.0"},
		{"release wins", debug.BuildInfo{Main: debug.Module{Version: "v0.9.0"}, Settings: vcs("0123456789abcdef", "false")}, "v0.9.0"},
		{"commit", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("0123456789abcdef", "false")}, "devel-0123456789ab"},
		{"changed since", debug.BuildInfo{Settings: vcs("0123456789abcdef", "true")}, "devel-0123456789ab-modified"},
		{"short commit", debug.BuildInfo{Settings: vcs("0123", "false")}, "devel-0123"},
		{"nothing known", debug.BuildInfo{}, "devel"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := versionOf(&test.info); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if toolVersion() == "" {
		t.Error("this program has no version")
	}
}
