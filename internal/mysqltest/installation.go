package mysqltest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/replication"
)

// installation is what scripts/servers.sh made.
type installation struct {
	root     string
	versions map[replication.Flavor]string // such as "9.7.4"
}

// findInstallation finds it in the folder that SHARDSEED_SERVERS names, or in
// .servers of the module that the working directory is in.
func findInstallation() (*installation, error) {
	root := os.Getenv("SHARDSEED_SERVERS")
	if root == "" {
		module, err := moduleRoot()
		if err != nil {
			return nil, err
		}
		root = filepath.Join(module, ".servers")
	}
	versions, err := readStamp(filepath.Join(root, "stamp"))
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("find the servers: %w (run \"make servers\")", err), `run "make servers"`)
	}
	return &installation{root: root, versions: versions}, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the working directory")
}

// readStamp reads the lines "MySQL VERSION: …" and "MariaDB VERSION: …".
func readStamp(path string) (map[replication.Flavor]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	names := map[string]replication.Flavor{"MySQL": replication.MySQL, "MariaDB": replication.MariaDB}
	versions := make(map[replication.Flavor]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fact, _, _ := strings.Cut(lines.Text(), ":")
		name, version, _ := strings.Cut(fact, " ")
		if flavor, ok := names[name]; ok {
			versions[flavor] = version
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(versions) != len(names) {
		return nil, fmt.Errorf("%s names %d servers of %d", path, len(versions), len(names))
	}
	return versions, nil
}

func (i *installation) path(elements ...string) string {
	return filepath.Join(append([]string{i.root}, elements...)...)
}

func (i *installation) program(name string) string {
	return i.path("bin", name)
}

// server returns the server program.
func (i *installation) server(flavor replication.Flavor) string {
	if flavor == replication.MariaDB {
		return i.program("mariadbd")
	}
	return i.program("mysqld")
}
