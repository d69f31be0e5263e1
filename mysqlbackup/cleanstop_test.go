package mysqlbackup

import (
	"errors"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup/innodb"
	"github.com/shardseed/shardseed/replication"
)

// A server that was stopped in order proves it; each sign against it, put
// there by hand, is enough to refuse.
func TestProveCleanStop(t *testing.T) {
	for flavor, signs := range map[replication.Flavor][]string{
		replication.MySQL:   {"ibtmp1", "#innodb_temp/temp_1.ibt"},
		replication.MariaDB: {"ibtmp1", "ddl_recovery.log"},
	} {
		srv := mysqltest.Start(t, flavor, mysqltest.Options{})
		srv.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
		srv.Stop(t)
		d, err := ReadDefaults(srv.DefaultsFile)
		if err != nil {
			t.Fatal(err)
		}
		l, err := newLayout(flavor, optionsOf(d, flavor), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := checkRedoFormat(l); err != nil {
			t.Errorf("%s: redo format: %v", flavor, err)
		}
		proof, err := proveCleanStop(l)
		if err != nil || proof.LSN == 0 || proof.Proved || len(proof.Signals) < 3 {
			t.Fatalf("%s: proof %+v, %v", flavor, proof, err)
		}
		checkProofByPages(t, proof)
		for _, name := range signs {
			tree(t, srv.Datadir, name)
			_, err := proveCleanStop(l)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) || len(hint.Of(err)) != 1 {
				t.Errorf("%s with %s: %v, want a refusal with a hint", flavor, name, err)
			}
			remove(t, srv.Datadir+"/"+name)
		}
		if _, err := proveCleanStop(l); err != nil {
			t.Errorf("%s, mended: %v", flavor, err)
		}
		srv.Start(t)
		srv.Exec(t, "INSERT INTO d.t VALUES (2)")
		srv.Kill(t)
		if proof, err := proveCleanStop(l); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, killed: proof %+v, %v", flavor, proof, err)
		}
	}
}

func checkProofByPages(t *testing.T, proof manifest.CleanStop) {
	t.Helper()
	older := []manifest.File{{Path: "a", LSN: proof.LSN}, {Path: "b"}}
	proved := proof
	if err := proveByPages(&proved, older); err != nil || !proved.Proved || len(proved.Signals) != len(proof.Signals)+1 {
		t.Errorf("no page is newer: %+v, %v", proved, err)
	}
	newer := append(older, manifest.File{Path: "c", LSN: proof.LSN + 1})
	proved = proof
	if err := proveByPages(&proved, newer); err == nil || !strings.Contains(err.Error(), "page of c") || proved.Proved {
		t.Errorf("a page is newer: %+v, %v", proved, err)
	}
}

func TestProveCleanStopMissingFiles(t *testing.T) {
	f := newFolders(t)
	for _, flavor := range []replication.Flavor{replication.MySQL, replication.MariaDB} {
		if proof, err := proveCleanStop(f.layout(t, flavor)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: proof %+v, %v; want a refusal", flavor, proof, err)
		}
		if err := checkRedoFormat(f.layout(t, flavor)); err != nil {
			t.Errorf("%s: an absent log has no format that could be refused: %v", flavor, err)
		}
	}
	writeText(t, f.data+"/ibdata1", "short")
	if err := checkFlushLSN(f.layout(t, replication.MySQL), 1); err == nil {
		t.Error("a short file has a flush LSN")
	}
	writeText(t, f.data+"/ibdata1", string(make([]byte, innodb.HeaderSize)))
	if err := checkFlushLSN(f.layout(t, replication.MySQL), 1); err == nil {
		t.Error("flush LSN 0 is checkpoint 1")
	}
}
