package mysqlbackup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// Defaults are the options that a mysqld reads from its defaults file. They do
// not change.
type Defaults struct {
	Path     string // absolute
	Text     string // of the file itself, without what it includes
	settings []setting
	server   replication.Version // that reads them; zero: not known yet
}

// setting is one line of a group.
type setting struct{ group, name, value string }

// maxInclude bounds how deep files may include each other.
const maxInclude = 10

// ReadDefaults reads a defaults file the way mysqld does: the groups that
// servers read, files named by !include and !includedir, the last value
// winning. Included files that are not there, or that everybody may write, are
// ignored.
// Source: MySQL manual, "Using Option Files"; my_print_defaults of MariaDB.
func ReadDefaults(path string) (*Defaults, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read defaults file %s: %w", path, err)
	}
	text, ignored, err := readConfig(absolute)
	if err != nil {
		return nil, fmt.Errorf("read defaults file: %w", err)
	}
	if ignored {
		return nil, hint.Wrap(fmt.Errorf("read defaults file %s: everybody may write it, and servers ignore such files", absolute), "chmod o-w "+absolute)
	}
	d := &Defaults{Path: absolute, Text: text}
	if err := d.parse(absolute, text, 0); err != nil {
		return nil, fmt.Errorf("read defaults file %s: %w", absolute, err)
	}
	return d, nil
}

// readConfig returns a file's text; ignored says that no server reads it.
func readConfig(path string) (text string, ignored bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", false, err
	}
	if info.Mode().IsRegular() && info.Mode()&0o002 != 0 {
		return "", true, nil
	}
	data, err := os.ReadFile(path)
	return string(data), false, err
}

// For returns the options as a server of this version reads them: with the
// groups of its flavor and version, such as [mariadb] and [mysqld-8.4]. Until
// the version is known, those of all flavors and no version are read.
func (d *Defaults) For(v replication.Version) *Defaults {
	known := *d
	known.server = v
	return &known
}

// Option returns the value of an option; the empty string is what an option
// without a value has. Dashes and underscores are the same. An option that was
// switched off last, by skip- or disable-, is not set.
func (d *Defaults) Option(name string) (string, bool) {
	value, isSet, _ := d.lookup(name)
	return value, isSet
}

// lookup also tells whether the option was switched off.
func (d *Defaults) lookup(name string) (value string, isSet, isOff bool) {
	name = canonical(name)
	for _, s := range d.settings {
		switch {
		case !d.reads(s.group):
		case s.name == name:
			value, isSet, isOff = s.value, true, false
		case s.name == "skip_"+name, s.name == "disable_"+name:
			value, isSet, isOff = "", false, true
		}
	}
	return value, isSet, isOff
}

// reads tells the groups that the server reads.
func (d *Defaults) reads(group string) bool {
	isMariaDB := d.server.Flavor != replication.MySQL
	switch group {
	case "mysqld", "server":
		return true
	case "mariadb", "mariadbd", "client-server", "galera":
		return isMariaDB
	}
	name, version, _ := strings.Cut(group, "-")
	if version != fmt.Sprintf("%d.%d", d.server.Major, d.server.Minor) {
		return false
	}
	return name == "mysqld" || isMariaDB && (name == "mariadb" || name == "mariadbd")
}

// within returns path as an absolute path; a relative one lies below base.
func within(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

func (d *Defaults) parse(path, text string, depth int) error {
	if depth > maxInclude {
		return fmt.Errorf("%s: files include each other more than %d deep", path, maxInclude)
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	group := ""
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '!':
			if err := d.include(line, depth); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		case line[0] == '[':
			name, _, closed := strings.Cut(line[1:], "]")
			if !closed {
				return fmt.Errorf("%s: line %d: a group has no closing bracket", path, number)
			}
			group = strings.ToLower(strings.TrimRight(name, " \t"))
		case group == "":
			return fmt.Errorf("%s: line %d: an option stands before the first group", path, number)
		default:
			d.set(group, line)
		}
	}
	return lines.Err()
}

// include reads what "!include FILE" or "!includedir FOLDER" names. Servers
// ignore other directives.
func (d *Defaults) include(line string, depth int) error {
	directive, argument := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		directive, argument = line[:i], strings.TrimSpace(line[i:])
	}
	switch directive {
	case "!include":
		return d.includeFile(argument, depth)
	case "!includedir":
		entries, err := os.ReadDir(argument) // sorted
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if filepath.Ext(entry.Name()) != ".cnf" {
				continue
			}
			if err := d.includeFile(filepath.Join(argument, entry.Name()), depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Defaults) includeFile(file string, depth int) error {
	text, ignored, err := readConfig(file)
	if errors.Is(err, fs.ErrNotExist) || ignored {
		return nil
	}
	if err != nil {
		return err
	}
	return d.parse(file, text, depth+1)
}

// set takes one line: name, name=value, with a prefix such as loose-.
func (d *Defaults) set(group, line string) {
	name, value, _ := strings.Cut(withoutComment(line), "=")
	name = strings.TrimPrefix(canonical(strings.TrimSpace(name)), "loose_")
	d.settings = append(d.settings, setting{group, name, unquote(strings.TrimSpace(value))})
}

// withoutComment cuts a line at the first # that is not quoted. A quote that
// is not closed reaches to the end of the line.
func withoutComment(line string) string {
	var quote byte
	escaped := false
	for i := range len(line) {
		c := line[i]
		switch {
		case (c == '"' || c == '\'') && !escaped && quote == 0:
			quote = c
		case c == quote && !escaped:
			quote = 0
		case c == '#' && quote == 0:
			return line[:i]
		}
		escaped = quote != 0 && c == '\\' && !escaped
	}
	return line
}

// unquote removes quotes around a value, and resolves escapes. A backslash
// before anything but these is one.
func unquote(value string) string {
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		value = value[1 : n-1]
	}
	escapes := strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r", `\b`, "\b", `\s`, " ", `\"`, `"`, `\'`, `'`)
	return escapes.Replace(value)
}

func canonical(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "-", "_"))
}
