package faults

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// event is a call that changed the files, and has succeeded.
type event struct {
	op            string
	path, another string
	data          []byte            // of a file, at a sync
	mode          fs.FileMode       // that the file has now
	all           map[string][]byte // of all files, when the file system was synced
}

func (e event) String() string { return strings.TrimSpace(e.op + " " + e.path + " " + e.another) }

// node is a file or folder on a disk whose power may fail.
type node struct {
	mode  fs.FileMode
	was   fs.FileMode      // when it was synced last
	data  []byte           // as it was synced last; nothing if it never was
	names map[string]*node // of a folder: as programs see it; nil for a file
	kept  map[string]*node // of a folder: as it was synced last
	in    *node            // of a folder: the one that keeps it
}

// readDisk reads a folder, all of which has been on the disk for long.
func readDisk(t *testing.T, dir string) *node {
	t.Helper()
	info, err := os.Lstat(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{mode: info.Mode(), was: info.Mode()}
	if !info.IsDir() {
		if n.data, err = os.ReadFile(dir); err != nil {
			t.Fatal(err)
		}
		return n
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n.names = map[string]*node{}
	for _, e := range entries {
		n.names[e.Name()] = readDisk(t, filepath.Join(dir, e.Name()))
	}
	n.kept = maps.Clone(n.names)
	n.adopt()
	return n
}

// adopt takes the folders in n out of those that kept them before: no file system
// shows a folder in two places.
func (n *node) adopt() {
	for _, child := range n.kept {
		if child.names == nil || child.in == n {
			continue
		}
		if child.in != nil {
			maps.DeleteFunc(child.in.kept, func(_ string, other *node) bool { return other == child })
		}
		child.in = n
	}
}

// find returns the node of a path as programs see it, nil if there is none.
func (n *node) find(path string) *node {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || n == nil {
			continue
		}
		n = n.names[part]
	}
	return n
}

func (n *node) parent(path string) (*node, string) {
	return n.find(filepath.Dir(path)), filepath.Base(path)
}

// apply does to the disk what a call has done.
func (n *node) apply(e event) {
	folder, name := n.parent(e.path)
	switch e.op {
	case "open":
		folder.names[name] = &node{mode: e.mode, was: e.mode}
	case "mkdir":
		folder.names[name] = &node{mode: e.mode, was: e.mode, names: map[string]*node{}, kept: map[string]*node{}}
	case "remove":
		delete(folder.names, name)
	case "link", "rename":
		to, as := n.parent(e.another)
		to.names[as] = folder.names[name]
		if e.op == "rename" {
			delete(folder.names, name)
		}
	case "chmod":
		n.find(e.path).mode = e.mode
	case "sync":
		n.find(e.path).sync(e.data)
	case "syncfs":
		n.syncAll("", e.all)
	}
}

func (n *node) sync(data []byte) {
	n.was = n.mode
	if n.names != nil {
		n.kept = maps.Clone(n.names)
		n.adopt()
		return
	}
	n.data = data
}

func (n *node) syncAll(path string, all map[string][]byte) {
	n.sync(all[strings.TrimPrefix(path, "/")])
	for name, child := range n.names {
		child.syncAll(path+"/"+name, all)
	}
}

// survivors are the names in a folder after a power cut.
func (n *node) survivors(keepNames bool) map[string]*node {
	if keepNames {
		return n.names
	}
	return n.kept
}

// permissions likewise.
func (n *node) permissions(keepNames bool) fs.FileMode {
	if keepNames {
		return n.mode.Perm()
	}
	return n.was.Perm()
}

// print describes what would survive: equal disks print the same.
func (n *node) print(text *strings.Builder, path string, keepNames bool) {
	fmt.Fprintf(text, "%s %s %d %p\n", path, n.permissions(keepNames), len(n.data), n.data)
	below := n.survivors(keepNames)
	for _, name := range slices.Sorted(maps.Keys(below)) {
		below[name].print(text, path+"/"+name, keepNames)
	}
}

// write makes what survives.
func (n *node) write(t *testing.T, dir string, keepNames bool) {
	t.Helper()
	if n.names == nil {
		if err := writeSparse(dir, n.data, n.permissions(keepNames)); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.Mkdir(dir, n.permissions(keepNames)); err != nil {
		t.Fatal(err)
	}
	for name, child := range n.survivors(keepNames) {
		child.write(t, filepath.Join(dir, name), keepNames)
	}
}

// recordEvents runs the command undisturbed and returns what it did.
func (s *stage) recordEvents(t *testing.T, w *world) ([]event, outcome) {
	t.Helper()
	var events []event
	synced := map[int][]byte{} // by thread: what a file holds whose sync begins
	tr := &tracer{watched: w.dir, args: s.args(s, w), env: []string{clockVariable + "=0s"}}
	tr.decide = func(c *call) verdict {
		if c.name == "sync" {
			file := fmt.Sprintf("/proc/%d/fd/%d", c.pid, c.fd)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				synced[c.pid], err = os.ReadFile(file)
				if err != nil {
					t.Error(err)
				}
			}
		}
		return verdict{tell: c.changes && (c.name != "open" || c.creates)}
	}
	tr.seen = func(c *call, result int64) {
		if result < 0 {
			return
		}
		e := event{op: c.name, path: c.path, another: c.another, data: synced[c.pid]}
		delete(synced, c.pid)
		if info, err := os.Lstat(filepath.Join(w.dir, c.path)); err == nil {
			e.mode = info.Mode()
		}
		if c.name == "syncfs" {
			e.all = readFiles(t, w.dir)
		}
		events = append(events, e)
	}
	o, err := tr.run(filepath.Join(s.dir, "output"))
	if err != nil || o.code != 0 {
		t.Fatalf("undisturbed: %+v, %v", o, err)
	}
	return events, o
}

// readFiles returns the files below a folder.
func readFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		all[strings.TrimPrefix(path, dir+"/")], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// TestPowerCut cuts the power after each call of each command by which it changes
// files. What was not synced is lost, or names are kept all the same.
func TestPowerCut(t *testing.T) {
	eachStage(t, func(t *testing.T, s *stage) { s.cutPower(t) })
}

func (s *stage) cutPower(t *testing.T) {
	w := s.fresh(t)
	events, said := s.recordEvents(t, w)
	s.drop(t, w)
	disk := readDisk(t, s.world.dir)
	seen := map[string]bool{}
	cuts := 0
	for n := 0; n <= len(events); n++ {
		what := "before the first call"
		if n > 0 {
			disk.apply(events[n-1])
			what = fmt.Sprintf("after call %d, %q", n, events[n-1])
		}
		for _, keepNames := range []bool{false, true} {
			var text strings.Builder
			disk.print(&text, "", keepNames)
			last := n == len(events)
			if seen[text.String()] && !last {
				continue
			}
			seen[text.String()] = true
			if cuts++; cuts%*cutStride != 0 && !last {
				continue
			}
			o := outcome{code: -1}
			if last {
				o = said
			}
			s.cut(t, disk, keepNames, o, what)
		}
	}
	t.Logf("%d calls, %d different cuts", len(events), cuts)
}

// cut looks at what one power cut leaves, and at what the command had said.
func (s *stage) cut(t *testing.T, disk *node, keepNames bool, o outcome, what string) {
	s.made++
	w := &world{filepath.Join(s.dir, fmt.Sprint("world", s.made)), s.fixture}
	disk.write(t, w.dir, keepNames)
	w.settle(t)
	if wrong := s.verify(t, w, o); len(wrong) > 0 {
		t.Errorf("power cut %s, names kept: %t\n\t%s", what, keepNames, strings.Join(wrong, "\n\t"))
	}
	s.drop(t, w)
}
