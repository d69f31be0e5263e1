package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/internal/ui"
)

// textFlag makes a flag with a text, which may also come from the
// configuration file.
func textFlag(name, usage string) cli.Flag {
	return altsrc.NewStringFlag(&cli.StringFlag{Name: name, Usage: usage})
}

// switchFlag likewise makes a flag that is on or off.
func switchFlag(name, usage string) cli.Flag {
	return altsrc.NewBoolFlag(&cli.BoolFlag{Name: name, Usage: usage, DisableDefaultText: true})
}

// timeFlag likewise makes a flag with a duration.
func timeFlag(name string, value time.Duration, usage string) cli.Flag {
	text := strings.TrimSuffix(strings.TrimSuffix(value.String(), "0s"), "0m")
	switch {
	case value == 0:
		text = "off"
	case value < time.Minute:
		text = value.String()
	}
	return altsrc.NewDurationFlag(&cli.DurationFlag{Name: name, Value: value, DefaultText: text, Usage: usage})
}

// countFlag likewise makes a flag with a number; 0 stands for the default that
// text describes.
func countFlag(name, text, usage string) cli.Flag {
	return altsrc.NewIntFlag(&cli.IntFlag{Name: name, DefaultText: text, Usage: usage})
}

// rateFlag likewise makes a flag with a number of bytes per second.
func rateFlag(name, usage string) cli.Flag {
	return altsrc.NewStringFlag(&cli.StringFlag{Name: name, DefaultText: "no limit", Usage: usage})
}

// parseRate returns the value of a flag made by rateFlag; 0 is no limit.
func parseRate(c *cli.Context, k *checks, name string) int64 {
	text := c.String(name)
	if text == "" {
		return 0
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<50 {
		k.addf("flag --%s: %q is no number of bytes per second, such as 100MiB", name, text)
		return 0
	}
	return int64(n)
}

// globalFlags returns the flags of every command.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "root", Aliases: []string{"file-backup-storage-root"}, EnvVars: []string{"SHARDSEED_ROOT"},
			Usage: "`DIR` that holds the repository",
		}),
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "backup-storage-implementation", Value: "file",
			Usage: "`KIND` of storage; there is only \"file\"",
		}),
		&cli.StringFlag{Name: "config", Usage: "YAML `FILE` with values for flags, by their names"},
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "cache-dir", EnvVars: []string{"SHARDSEED_CACHE_DIR"},
			DefaultText: "/var/cache/shardseed for root, else shardseed in the user's cache folder",
			Usage:       "`DIR` of this host for the index, which can be rebuilt at any time; never on the shared root",
		}),
		switchFlag("json", "answer in lines of JSON"),
		switchFlag("quiet", "no steps and no progress, only warnings and errors"),
		altsrc.NewStringFlag(&cli.StringFlag{
			Name: "log-format", Value: "text",
			Usage: "`FORM` of standard error: text or json",
		}),
		&cli.BoolFlag{Name: versionWord, Usage: "print the version", DisableDefaultText: true},
	}
}

// checkGlobals returns what the global flags say, with absolute paths.
func checkGlobals(c *cli.Context, k *checks) globals {
	if kind := c.String("backup-storage-implementation"); kind != "file" {
		k.addf("flag --backup-storage-implementation: %q is not supported, only \"file\" is", kind)
	}
	return globals{root: absolute(k, c.String("root")), cacheDir: absolute(k, c.String("cache-dir"))}
}

// globals are the global flags that commands need themselves.
type globals struct {
	root     string // absolute; "": not given
	cacheDir string // absolute; "": the default
}

// repository returns the root, which must be given.
func (g globals) repository(k *checks) string {
	if g.root == "" {
		k.addf("flag --root is missing")
	}
	return g.root
}

// cache returns the folder for the index.
func (g globals) cache(k *checks) string {
	if g.cacheDir != "" {
		return g.cacheDir
	}
	return defaultCache(k, os.Geteuid())
}

func defaultCache(k *checks, uid int) string {
	if uid == 0 {
		return "/var/cache/" + ui.Program
	}
	base, err := os.UserCacheDir()
	if err != nil {
		k.addf("flag --cache-dir is missing, and there is no default: %v", err)
		return ""
	}
	return filepath.Join(base, ui.Program)
}

// stateDir returns the folder for put-back journals.
func stateDir(c *cli.Context, k *checks) string {
	if dir := absolute(k, c.String("state-dir")); dir != "" {
		return dir
	}
	return defaultState(k, os.Geteuid())
}

func defaultState(k *checks, uid int) string {
	if uid == 0 {
		return "/var/lib/" + ui.Program
	}
	if base := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, ui.Program)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		k.addf("flag --state-dir is missing, and there is no default: %v", err)
		return ""
	}
	return filepath.Join(home, ".local", "state", ui.Program)
}

// absolute returns path as seen from the working folder; "" stays "".
func absolute(k *checks, path string) string {
	if path == "" {
		return ""
	}
	abs, err := filepath.Abs(path)
	k.add(err)
	return abs
}

// positiveTime returns the value of a flag made by timeFlag.
func positiveTime(c *cli.Context, k *checks, name string) time.Duration {
	d := c.Duration(name)
	if d <= 0 {
		k.addf("flag --%s: %v is not a positive duration", name, d)
	}
	return d
}

// count returns the value of a flag made by countFlag, or byDefault if it was
// not given.
func count(c *cli.Context, k *checks, name string, byDefault int) int {
	const most = 1024
	n := c.Int(name)
	if !c.IsSet(name) {
		return byDefault
	}
	if n < 1 || n > most {
		k.add(fmt.Errorf("flag --%s: %d is not between 1 and %d", name, n, most))
	}
	return n
}
