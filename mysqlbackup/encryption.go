package mysqlbackup

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// setKeys finds the files that hold keys. None of them is copied, since a key
// beside what it encrypts protects nothing, and a restore leaves those of the
// target alone.
// Source: MySQL manual, "Keyring Component Installation"; MariaDB, file_key_management.
func (l *layout) setKeys(opts options) error {
	l.keys = map[string]bool{}
	for _, name := range []string{
		"keyring_file_data", "keyring_encrypted_file_data", "file_key_management_filename", "file_key_management_filekey",
	} {
		if value := strings.TrimPrefix(opts(name), "FILE:"); value != "" {
			l.keys[l.folder(value)] = true
		}
	}
	for _, folder := range []string{l.datadir, opts("plugin_dir")} {
		configs, err := listIfThere(folder, isKeyringConfig)
		if err != nil && !errors.Is(err, fs.ErrPermission) { // what we may not see is not ours to copy
			return fmt.Errorf("find the files that hold keys: %w", err)
		}
		for _, config := range configs {
			path, err := keyringOf(config)
			if err != nil {
				return fmt.Errorf("find the files that hold keys: %w", err)
			}
			if path != "" {
				l.keys[l.folder(path)] = true
			}
		}
	}
	return nil
}

// isKeyringConfig tells the configuration of a keyring component of MySQL.
func isKeyringConfig(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, "component_keyring_") && filepath.Ext(name) == ".cnf"
}

// keyringOf returns the file that a keyring component's configuration names,
// "" if it names none.
func keyringOf(config string) (string, error) {
	text, err := os.ReadFile(config)
	if err != nil {
		return "", err
	}
	var names struct {
		Path string `json:"path"`
	}
	_ = json.Unmarshal(text, &names) // no server starts with a text that makes no sense
	return names.Path, nil
}

// isKey reports whether a file holds keys, or says where they are.
func (l *layout) isKey(path string) bool {
	name := filepath.Base(path)
	return l.keys[path] || filepath.Dir(path) == l.datadir && (name == "mysqld.my" || strings.HasPrefix(name, "component_keyring_"))
}

// holdsKey reports whether a path is a key's or that of a folder above one, or may be.
func (l *layout) holdsKey(path string) bool {
	for key := range l.keys {
		if there, err := isThere(key); isBelow(path, key) && (there || err != nil) {
			return true
		}
	}
	return l.isKey(path)
}

// checkRedoEncryption refuses a running server that encrypts its redo log: what
// stands in it can't be decoded without the key, and a clean stop not be proved.
func checkRedoEncryption(vars map[string]string) error {
	for _, name := range []string{"innodb_redo_log_encrypt", "innodb_encrypt_log"} {
		if same(vars[name], "ON") {
			return hint.Wrap(fmt.Errorf("%s is on: the redo log is encrypted, and a clean stop could not be proved by it", name), "set "+name+"=OFF")
		}
	}
	return nil
}

// keyAdvice says what a restore of encrypted pages needs.
const keyAdvice = "give this server the keyring of the server that was backed up, or its key file, and configure it as there; it is not part of the backup"

// tellKeys says before a restore what it will need. Whether it is there shows
// when the server has started: how a server gets its keys can't be told from
// its defaults file.
func (r *restoreRun) tellKeys() {
	if pages := r.chosen.Pages.Encrypted; pages > 0 {
		r.Progress.Warn(fmt.Sprintf("the backup has %d encrypted pages: %s", pages, keyAdvice))
	}
}

// checkKeys makes sure that a restored server can read its encrypted tables:
// it starts without the keys, and fails when such a table is used.
func (r *restoreRun) checkKeys(ctx context.Context, srv *server) error {
	if r.chosen.Pages.Encrypted == 0 {
		return nil
	}
	tables, err := srv.encryptedTables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		_, err := srv.value(ctx, "SELECT 1 FROM "+table+" LIMIT 1")
		if isKeyMissing(err, r.chosen.Pages.Bad == 0) {
			return hint.Wrap(fmt.Errorf("the restored server has no key for its encrypted tables: %w", err), keyAdvice)
		}
	}
	return nil
}

// encryptedTables names some tables that are encrypted, quoted. MariaDB does
// not tell which tables its defaults encrypt: those that are marked come first.
func (s *server) encryptedTables(ctx context.Context) ([]string, error) {
	query := `SELECT table_schema AS d, table_name AS t FROM information_schema.tables
		WHERE table_type = 'BASE TABLE' AND create_options LIKE '%ENCRYPTION=_Y%' LIMIT 100`
	if s.flavor() == replication.MariaDB {
		query = `SELECT table_schema AS d, table_name AS t FROM information_schema.tables
			WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema NOT IN ('information_schema', 'performance_schema')
			ORDER BY IFNULL(create_options LIKE '%ENCRYPTED%', 1) DESC LIMIT 100`
	}
	rows, err := s.rows(ctx, query)
	if err != nil {
		return nil, err
	}
	tables := make([]string, len(rows))
	for i, row := range rows {
		tables[i] = quoteName(row["d"]) + "." + quoteName(row["t"])
	}
	return tables, nil
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// isKeyMissing tells the errors of a table whose key is not there: MySQL's
// ER_CANNOT_FIND_KEY_IN_KEYRING, and what MariaDB makes of its own error 192 at
// the first try and, as if the table were corrupt, at all others. whole says
// that it can't be: its pages have been verified.
func isKeyMissing(err error, whole bool) bool {
	const cannotFindKey, errorOfEngine, tableCorrupt = 3185, 1296, 1877
	var said *mysql.MySQLError
	if errors.Is(err, sql.ErrNoRows) || !errors.As(err, &said) {
		return false
	}
	return said.Number == cannotFindKey || whole && said.Number == tableCorrupt || said.Number == errorOfEngine && strings.Contains(said.Message, "192")
}
