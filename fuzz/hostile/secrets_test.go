package hostile

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/replication"
)

// wrongPassword is given where another is right.
const wrongPassword = "wr0ng-pass-marker"

// secrets are what must be nowhere: the passwords, and how quoting would write them.
func secrets() []string {
	var all []string
	for _, password := range []string{mysqltest.Password, mysqltest.ReplPassword, wrongPassword} {
		quoted := fmt.Sprintf("%q", password)
		all = append(all, password, quoted[1:len(quoted)-1], replication.Quote(password))
	}
	return all
}

func findSecret(text []byte) string {
	for _, secret := range secrets() {
		if bytes.Contains(text, []byte(secret)) {
			return secret
		}
	}
	return ""
}

// TestSecrets: while a server of each flavor is backed up, restored and drilled, and
// when its passwords are wrong, no password is in arguments of a process, in what
// is told, in the state folder, the cache, or in any object of the repository. What
// is in the server's own tables is in the packs.
func TestSecrets(t *testing.T) {
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		t.Run(string(flavor), func(t *testing.T) { checkSecrets(t, flavor) })
	}
}

func checkSecrets(t *testing.T, flavor replication.Flavor) {
	repo := newRepository(t)
	primary := mysqltest.Start(t, flavor, mysqltest.Options{})
	replica := mysqltest.StartReplica(t, primary, mysqltest.Options{})
	if flavor == replication.MariaDB { // a drill has no other account
		primary.Exec(t, "GRANT BINLOG MONITOR ON *.* TO '"+mysqltest.ReplUser+"'@'%'")
	}
	h := newHost(t, repo, flavor)
	h.limit = 1 << 40 // of memory is not the question
	h.inspect = func(cmdline []byte) {
		if s := findSecret(cmdline); s != "" {
			t.Errorf("%q is in the arguments of a process: %q", s, cmdline)
		}
	}
	wrong := filepath.Join(h.dir, "wrong")
	if err := os.WriteFile(wrong, []byte(wrongPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(h.dir, "state")
	common := func(passwordFile, replFile string) []string {
		return []string{
			"--user", mysqltest.AdminUser, "--password-file", passwordFile, "--replication-user", mysqltest.ReplUser, "--replication-password-file", replFile,
			"--state-dir", state, "--mysqld", replica.Program, "--log-format", "json", "--start-timeout", "1m", "--stop-timeout", "1m", "--catch-up-timeout", "1m",
		}
	}
	drill := []string{"verify", "commerce/-80", "--mysqld", replica.Program, "--scratch", filepath.Join(h.dir, "s"), "--owner", "root", "--catch-up", "--replication-user", mysqltest.ReplUser}
	for _, option := range replica.InstallationOptions() {
		drill = append(drill, "--option", option)
	}
	right := common(replica.PasswordFile, replica.ReplPasswordFile)
	h.run("primary", "set", "commerce/-80", primary.Address)
	back := func(args []string) []string {
		return append([]string{"backup", "zone1-101", "--keyspace", "commerce", "--shard", "-80", "--defaults-file", replica.DefaultsFile}, args...)
	}
	restore := func(args []string) []string {
		return append([]string{"restore", "commerce/-80", "--defaults-file", h.target.DefaultsFile}, args...)
	}
	for _, step := range []struct {
		args []string
		good bool
	}{
		{back(common(wrong, replica.ReplPasswordFile)), false},
		{back(right), true},
		{restore(common(replica.PasswordFile, wrong)), false},
		{restore(right), true},
		{append(slices.Clip(drill), "--replication-password-file", wrong), false},
		{append(slices.Clip(drill), "--replication-password-file", replica.ReplPasswordFile), true},
	} {
		got := h.run(step.args...)
		if (got.code == 0) != step.good {
			t.Errorf("%s: exit %d: %s", step.args[0], got.code, got.stderr)
		}
		if s := findSecret([]byte(got.stdout + got.stderr)); s != "" {
			t.Errorf("%s tells %q", step.args[0], s)
		}
	}
	for _, folder := range []string{state, filepath.Join(h.dir, "cache"), filepath.Join(h.dir, "s"), repo.root} {
		searchSecrets(t, folder)
	}
}

// searchSecrets looks into all files below a folder, and at their modes.
func searchSecrets(t *testing.T, folder string) {
	t.Helper()
	files := 0
	if err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); !strings.HasSuffix(path, ".lock") && mode&0o027 != 0 && mode&0o007 != 0 {
			t.Errorf("%s has mode %v", path, mode)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		files++
		text, err := os.ReadFile(path)
		if s := findSecret(text); s != "" {
			t.Errorf("%q is in %s", s, path)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if files == 0 && filepath.Base(folder) != "s" {
		t.Errorf("nothing is in %s", folder)
	}
}
