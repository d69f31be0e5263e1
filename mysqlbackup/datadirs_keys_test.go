package mysqlbackup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// TestKeys has a server that encrypts and keeps its keys in its data
// directory: they stay out of the backup, a restore on a server without them
// fails and says so, and one with them leaves them alone.
func TestKeys(t *testing.T) {
	t.Parallel()
	eachFlavor(t, func(t *testing.T, flavor replication.Flavor) {
		r := &datadirRun{bench: newBench(t), from: newPlace(t, nil), to: newPlace(t, nil), datadirCase: datadirCase{secret: true}}
		arm := armMariaDB
		if flavor == replication.MySQL {
			arm = armMySQL(t)
		}
		r.source = mysqltest.Start(t, flavor, mysqltest.Options{})
		r.source.Stop(t)
		arm(t, r.source)
		r.source.Start(t)
		r.source.Exec(t, append(createDatabase(), tableKinds(secretKinds(flavor))...)...)
		opts := r.backupOptions(t, r.source)
		opts.AllowPrimary = true
		result := r.mustBackUp(t, opts)
		r.manifest = result.Manifest
		if pages := result.Manifest.Pages; pages.Bad != 0 || pages.Encrypted < 30 {
			t.Errorf("pages: %+v", pages)
		}
		r.wantNoKeys(t)
		r.wantUseless(t, mysqltest.New(t, flavor, mysqltest.Options{}))
		r.target = mysqltest.New(t, flavor, mysqltest.Options{})
		arm(t, r.target)
		copyKeys(t, r.source.Datadir, r.target.Datadir)
		mustRestore(t, r.restoreOptions(t, r.target))
		r.compare(t)
		if _, err := os.Stat(filepath.Join(r.target.Datadir, keysName)); err != nil {
			t.Errorf("after a restore: %v", err)
		}
		r.wantEncryptedRedoRefused(t)
	})
}

// keysName is the file in the data directory that holds the keys.
const keysName = "my_keyring"

// wantUseless restores onto a server without keys.
func (r *datadirRun) wantUseless(t *testing.T, target *mysqltest.Server) {
	t.Helper()
	_, err := mysqlbackup.Restore(t.Context(), r.restoreOptions(t, target))
	if err == nil || !strings.Contains(err.Error(), "has no key") || errors.Is(err, mysqlbackup.ErrRefused) {
		t.Errorf("restore without keys: got %v", err)
	}
	if target.Running() {
		t.Error("the useless server runs")
	}
	if !strings.Contains(strings.Join(r.progress.warned, "\n"), "encrypted pages") {
		t.Errorf("warned of %q", r.progress.warned)
	}
}

// secretKinds are encrypted tables.
func secretKinds(flavor replication.Flavor) map[string]string {
	if flavor == replication.MariaDB {
		return map[string]string{"crypt": "ENGINE=InnoDB ENCRYPTED=YES", "crypt_2": "ENGINE=InnoDB ENCRYPTED=YES ENCRYPTION_KEY_ID=2", "plain": "ENGINE=InnoDB"}
	}
	return map[string]string{
		"crypt": "ENGINE=InnoDB ENCRYPTION='Y'", "plain": "ENGINE=InnoDB", "crypt_zip": "ENGINE=InnoDB ENCRYPTION='Y' ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
		"crypt_packed": "ENGINE=InnoDB ENCRYPTION='Y' COMPRESSION='zlib'", "crypt_parts": "ENGINE=InnoDB ENCRYPTION='Y' PARTITION BY HASH (id) PARTITIONS 2",
	}
}

// wantEncryptedRedoRefused wants a server whose redo log is encrypted refused
// before it is stopped: a clean stop could not be proved.
func (r *datadirRun) wantEncryptedRedoRefused(t *testing.T) {
	t.Helper()
	if r.source.Flavor == replication.MariaDB {
		r.source.Stop(t)
		addLines(t, r.source, "innodb_encrypt_log=ON")
		r.source.Start(t)
	} else {
		r.source.Exec(t, "SET GLOBAL innodb_redo_log_encrypt = ON", "INSERT INTO dd.plain SELECT id + 100000, k, v, b FROM dd.seed")
	}
	pid := r.source.PID()
	opts := r.backupOptions(t, r.source)
	opts.AllowPrimary = true
	_, err := mysqlbackup.Backup(t.Context(), opts)
	if !errors.Is(err, mysqlbackup.ErrRefused) || !strings.Contains(fmt.Sprint(err), "encrypted") || r.source.PID() != pid {
		t.Errorf("encrypted redo log: got %v, process %d, was %d", err, r.source.PID(), pid)
	}
}

func addLines(t *testing.T, s *mysqltest.Server, lines ...string) {
	t.Helper()
	text, err := os.ReadFile(s.DefaultsFile)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.DefaultsFile, string(text)+strings.Join(lines, "\n")+"\n")
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func copyKeys(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(from, keysName))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(to, keysName), string(text))
}

// armMariaDB gives a stopped server a file of keys.
func armMariaDB(t *testing.T, s *mysqltest.Server) {
	t.Helper()
	writeFile(t, filepath.Join(s.Datadir, keysName), "1;"+secretKey+"\n2;"+secretKey+secretKey+"\n")
	addLines(t, s, "plugin_load_add=file_key_management", "file_key_management_filename="+keysName)
}

// armMySQL makes a program that loads a keyring component, without touching
// the installation: the manifest of components lies beside the program. The
// returned function lets a stopped server use it.
func armMySQL(t *testing.T) func(*testing.T, *mysqltest.Server) {
	t.Helper()
	tree := newPlace(t, []string{"sbin", "plugin"})
	program := mysqltest.Program(t, "mysqld")
	servers := filepath.Join(filepath.Dir(program), "..", "mysql", "usr")
	real, err := filepath.EvalSymlinks(filepath.Join(servers, "sbin", "mysqld"))
	if err != nil {
		t.Fatal(err)
	}
	plugins, err := filepath.Glob(filepath.Join(servers, "lib", "mysql", "plugin", "*"))
	if err != nil || len(plugins) == 0 {
		t.Fatalf("%d plugins: %v", len(plugins), err)
	}
	links := map[string]string{tree.at("sbin", "mysqld"): real}
	for _, path := range plugins {
		links[tree.at("plugin", filepath.Base(path))] = path
	}
	for link, path := range links {
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
	}
	wrapper, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`--argv0 '[^']*'`)
	if !name.Match(wrapper) {
		t.Fatalf("%s does not name the program: %s", program, wrapper)
	}
	writeFile(t, tree.at("mysqld"), name.ReplaceAllLiteralString(string(wrapper), "--argv0 '"+tree.at("sbin", "mysqld")+"'"))
	writeFile(t, tree.at("sbin", "mysqld.my"), `{"components": "file://component_keyring_file"}`)
	writeFile(t, tree.at("plugin", "component_keyring_file.cnf"), `{"read_local_config": true}`)
	return func(t *testing.T, s *mysqltest.Server) {
		t.Helper()
		s.Program = tree.at("mysqld")
		addLines(t, s, "plugin-dir="+tree.at("plugin"))
		config := fmt.Sprintf(`{"path": %q, "read_only": false}`, filepath.Join(s.Datadir, keysName))
		writeFile(t, filepath.Join(s.Datadir, "component_keyring_file.cnf"), config)
	}
}
