package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// grow writes the files, named by their path below dir.
func grow(tb testing.TB, dir string, files map[string]string) string {
	tb.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func TestSameTree(t *testing.T) {
	large := strings.Repeat("x", 256<<10)
	files := map[string]string{"a": "1", "b/c": large + "y", "empty": ""}
	want := grow(t, t.TempDir(), files)
	if err := sameTree(want, grow(t, t.TempDir(), files)); err != nil {
		t.Errorf("the same files: %v", err)
	}
	for name, change := range map[string]map[string]string{
		"differs": {"b/c": large + "z"},
		"shorter": {"b/c": large},
		"longer":  {"b/c": large + "yy"},
		"new":     {"b/d": ""},
		"filled":  {"empty": "1"},
	} {
		got := grow(t, t.TempDir(), files)
		grow(t, got, change)
		if err := sameTree(want, got); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	missing := grow(t, t.TempDir(), map[string]string{"a": "1"})
	if err := sameTree(want, missing); err == nil {
		t.Error("missing files: got no error")
	}
}

func TestTreeSize(t *testing.T) {
	dir := grow(t, t.TempDir(), map[string]string{"a": "123", "b/c": "4567"})
	if got, err := treeSize(dir); got != 7 || err != nil {
		t.Errorf("got %d, %v, want 7", got, err)
	}
	if got, err := treeSize(filepath.Join(dir, "none")); got != 0 || err != nil {
		t.Errorf("a folder that is not there: got %d, %v, want 0", got, err)
	}
	if err := emptyDir(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := treeSize(dir); got != 0 || err != nil {
		t.Errorf("an empty folder: got %d, %v, want 0", got, err)
	}
}

func TestStrip(t *testing.T) {
	dir := grow(t, t.TempDir(), map[string]string{
		"auto.cnf": "", "ca.pem": "", "#ib_16384_0.dblwr": "", "#innodb_temp/temp_1.ibt": "", "#innodb_redo/#ib_redo7_tmp": "",
		"#innodb_redo/#ib_redo6": "", "ibdata1": "", "bench/sbtest1.ibd": "",
	})
	if err := strip(dir); err != nil {
		t.Fatal(err)
	}
	want := grow(t, t.TempDir(), map[string]string{"#innodb_redo/#ib_redo6": "", "ibdata1": "", "bench/sbtest1.ibd": "", "#innodb_temp/x": ""})
	if err := os.Remove(filepath.Join(want, "#innodb_temp/x")); err != nil { // the folder stays
		t.Fatal(err)
	}
	if err := sameTree(want, dir); err != nil {
		t.Error(err)
	}
}
