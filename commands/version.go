package commands

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/ui"
)

func (r *run) versionCommand() *cli.Command {
	return &cli.Command{
		Name:        versionWord,
		Usage:       "prints the version of this program",
		Description: "Example:\n  shardseed version",
		Action:      r.version,
	}
}

func (r *run) version(c *cli.Context) error {
	var k checks
	k.positionals(c)
	if err := k.err(c); err != nil {
		return err
	}
	version := toolVersion()
	r.out.Text("%s %s (%s %s/%s)", ui.Program, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	r.out.Object(struct {
		Type    string `json:"type"`
		Version string `json:"version"`
		Go      string `json:"go"`
		OS      string `json:"os"`
		Arch    string `json:"arch"`
	}{"version", version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
	return r.out.Err()
}

// toolVersion returns the version of this program as the build knows it:
// of the module, or of the commit it was built from.
func toolVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	if revision == "" {
		return "devel"
	}
	version := "devel-" + revision[:min(len(revision), 12)]
	if settings["vcs.modified"] == "true" {
		version += "-modified"
	}
	return version
}
