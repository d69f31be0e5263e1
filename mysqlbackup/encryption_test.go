package mysqlbackup

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

func TestKeyFiles(t *testing.T) {
	for _, tc := range []struct {
		name   string
		flavor replication.Flavor
		lines  []string
		config string // of the keyring component, in the data directory
		keys   []string
		others []string
	}{
		{"none", replication.MySQL, nil, "", []string{"component_keyring_file", "component_keyring_kmip.cnf", "mysqld.my"}, []string{"keyring", "a/component_keyring_file", "ibdata1"}},
		{"component", replication.MySQL, nil, `{"path": "keyring", "read_only": true}`, []string{"keyring", "component_keyring_file.cnf"}, []string{"a/keyring"}},
		{"broken component", replication.MySQL, nil, `{"path": `, []string{"component_keyring_file.cnf"}, []string{"keyring"}},
		{"other folder", replication.MySQL, nil, `{"path": "/etc/keyring"}`, []string{"/etc/keyring"}, []string{"keyring"}},
		{"plugin", replication.MySQL, []string{"keyring_file_data=a/keyring"}, "", []string{"a/keyring"}, []string{"keyring"}},
		{
			"mariadb", replication.MariaDB,
			[]string{"loose_file-key-management-filename=a/keys", "file_key_management_filekey=FILE:/etc/secret"},
			"",
			[]string{"a/keys", "/etc/secret"},
			[]string{"keys", "FILE:/etc/secret"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.config != "" {
				if err := os.WriteFile(filepath.Join(dir, "component_keyring_file.cnf"), []byte(tc.config), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l := layoutOf(t, tc.flavor, append(tc.lines, "datadir="+dir)...)
			for _, path := range tc.keys {
				if path := within(dir, path); !l.isKey(path) || !l.dropped(path, false) {
					t.Errorf("%s is no key", path)
				}
			}
			for _, path := range tc.others {
				if path := within(dir, path); l.isKey(path) {
					t.Errorf("%s is a key", path)
				}
			}
		})
	}
}

// TestClearKeepsKeys has a target whose keys lie in its data directory, one of
// them in a folder.
func TestClearKeepsKeys(t *testing.T) {
	f := newFolders(t)
	tg := newTestTarget(t, f, replication.MySQL, "keyring_file_data=keys/keyring")
	tree(t, tg.layout.datadir, "ibdata1", "mysqld.my", "component_keyring_file.cnf", "keys/keyring", "other/keyring")
	paths, err := tg.occupied()
	if err != nil {
		t.Fatal(err)
	}
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	if want := []string{"ibdata1", "other"}; !slices.Equal(paths, want) {
		t.Errorf("got %q, want %q", paths, want)
	}
}

func TestIsKeyMissing(t *testing.T) {
	said := func(number uint16, text string) error {
		return fmt.Errorf("SELECT: %w", &mysql.MySQLError{Number: number, Message: text})
	}
	for _, tc := range []struct {
		err   error
		whole bool
		want  bool
	}{
		{nil, true, false},
		{sql.ErrNoRows, true, false},
		{errors.New("3185"), true, false},
		{said(3185, "Can't find master key from keyring"), false, true},
		{said(1296, "Got error 192 'Table encrypted but decryption failed' from InnoDB"), false, true},
		{said(1296, "Got error 121 from InnoDB"), true, false},
		{said(1877, "Table `d`.`t` is corrupted"), true, true},
		{said(1877, "Table `d`.`t` is corrupted"), false, false},
		{said(1146, "Table 'd.t' doesn't exist"), true, false},
	} {
		if got := isKeyMissing(tc.err, tc.whole); got != tc.want {
			t.Errorf("%v, %t: got %t", tc.err, tc.whole, got)
		}
	}
}

func TestCheckRedoEncryption(t *testing.T) {
	for name, want := range map[string]bool{"innodb_redo_log_encrypt": true, "innodb_encrypt_log": true, "innodb_encrypt_tables": false} {
		err := checkRedoEncryption(map[string]string{name: "ON"})
		if (err != nil) != want || want && len(hint.Of(err)) != 1 {
			t.Errorf("%s=ON: %v %q", name, err, hint.Of(err))
		}
		if err := checkRedoEncryption(map[string]string{name: "OFF"}); err != nil {
			t.Errorf("%s=OFF: %v", name, err)
		}
	}
}

func TestBareDataFiles(t *testing.T) {
	for list, want := range map[string]string{
		"ibdata1:12M:autoextend":                              "ibdata1:12M:autoextend",
		"/a/ibdata1:16M; /b/c/ibdata2:8M:autoextend:max:900M": "ibdata1:16M;ibdata2:8M:autoextend:max:900M",
		"":   ".:",
		"a;": "a:;.:",
	} {
		if got := bareDataFiles(list); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
}
