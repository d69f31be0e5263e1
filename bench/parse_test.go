package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTransactionsDone(t *testing.T) {
	summary := "SQL statistics:\n    queries performed:\n        write: 4000\n    transactions:                        1000   (1565.84 per sec.)\n"
	for text, want := range map[string]int{
		summary:                                  1000,
		"":                                       -1,
		"transactions: many (x)":                 -1,
		"transactions: 99999999999999999999 (x)": -1,
	} {
		if got := transactionsDone(text); got != want {
			t.Errorf("transactionsDone(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestParseAnswers(t *testing.T) {
	got, err := parseAnswers([]byte(`{"type":"backup","name":"a","downtime_seconds":1.5,"marks":[]}` + "\n" + `{"type":"other","name":"b"}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []answer{{Type: "backup", Name: "a", DowntimeSeconds: 1.5}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parseAnswers([]byte("made repository\n")); err == nil {
		t.Error("text that is not JSON: got no error")
	}
}

func TestVersion(t *testing.T) {
	for text, want := range map[string]string{
		"restic 0.19.1 compiled with go1.26\n":        "restic 0.19.1 compiled with go1.26",
		"/a/b/mysqld  Ver 9.7.4 for Linux\nmore\n":    "mysqld Ver 9.7.4 for Linux",
		"*** Zstandard CLI (64-bit) v1.5.4, by X ***": "Zstandard CLI (64-bit) v1.5.4, by X",
		"\n": "",
	} {
		if got := version(text); got != want {
			t.Errorf("version(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel name\t: AMD EPYC: x\nmodel name\t: other\n"); got != "AMD EPYC: x" {
		t.Errorf("got %q", got)
	}
	if got := cpuModel("processor: 0\n"); got != "unknown CPU" {
		t.Errorf("got %q", got)
	}
}

func TestMountOf(t *testing.T) {
	mounts := "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/bench-data xfs rw 0 0\nbroken\n"
	for dir, want := range map[string]string{
		"/work":            "ext4 on /dev/vda",
		"/tmp/bench":       "tmpfs on tmpfs",
		"/tmp":             "tmpfs on tmpfs",
		"/tmp/bench-data/": "xfs on /dev/vdb",
	} {
		if got := mountOf(mounts, dir); got != want {
			t.Errorf("mountOf(%q) = %q, want %q", dir, got, want)
		}
	}
	if got := mountOf("", "/tmp"); got != "unknown" {
		t.Errorf("without mounts: got %q", got)
	}
}
