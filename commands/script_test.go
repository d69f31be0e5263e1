package commands_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/commands"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/replication"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"shardseed":  shardseed,
		"fakebackup": fakeBackup,

		"vtctldclient": fakeVtctldclient,
		"vttablet":     fakeVttablet,
		"mysqlctl":     fakeMysqlctl,
		"socket":       listenOnSocket,
		"crash":        crashMysqld,
	})
}

// TestScripts runs the stories that need no database server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "../testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("SHARDSEED_CACHE_DIR", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("COMMERCE", "2026-08-01.131502.zone1-0000000101")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exits,
		},
	})
}

// exits is the script command "exit CODE PROGRAM [ARG...]": it runs the program
// and fails unless it ends with that code. Its output can be matched by
// "stdout" and "stderr" afterwards.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		got = ended.ExitCode()
	case err != nil:
		ts.Fatalf("run %s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("exit code: got %d, want %d", got, want)
	}
}

// shardseed is the program as main.go has it, with a hook: when the step
// SHARDSEED_TEST_STEP begins, SHARDSEED_TEST_DO happens first. That is the
// name of a signal, which the program sends to itself, or a shell command,
// which must succeed. Its clock is off by SHARDSEED_TEST_CLOCK.
func shardseed() {
	var off time.Duration
	if text := os.Getenv("SHARDSEED_TEST_CLOCK"); text != "" {
		var err error
		if off, err = time.ParseDuration(text); err != nil {
			panic(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := commands.Main(ctx, commands.Options{
		Args:   os.Args,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Now:    func() time.Time { return time.Now().Add(off) },
		Random: rand.Reader,
		OnStep: func(step string) {
			if step == os.Getenv("SHARDSEED_TEST_STEP") {
				atStep(ctx, os.Getenv("SHARDSEED_TEST_DO"))
			}
		},
	})
	stop()
	os.Exit(code)
}

func atStep(ctx context.Context, do string) {
	signals := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}
	if sig, ok := signals[do]; ok {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			panic(err)
		}
		<-ctx.Done() // the signal has arrived; after KILL nothing does
		return
	}
	if output, err := exec.Command("/bin/sh", "-c", do).CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%s: %v: %s", do, err, output))
	}
}

// fakeBackup is the program "fakebackup ROOT KEYSPACE/SHARD NAME [MARK]": it
// commits a backup of three files that no server has, with one bad page if it
// is marked. With the mark "failed" it is given up instead.
func fakeBackup() {
	mark := ""
	if len(os.Args) > 4 {
		mark = os.Args[4]
	}
	if err := commitFake(context.Background(), os.Args[1], os.Args[2], os.Args[3], mark); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func commitFake(ctx context.Context, root, shard, name, mark string) (err error) {
	backend, err := local.New(root)
	if err != nil {
		return err
	}
	repo, err := cas.Open(ctx, backend)
	if err != nil {
		return err
	}
	m, err := fakeManifest(shard, name, mark)
	if err != nil {
		return err
	}
	session, err := repo.Begin(ctx, m.Key(), nil)
	if err != nil {
		return err
	}
	if mark == "failed" {
		return session.Abandon(ctx)
	}
	w := session.NewWriter(cas.WriterOptions{})
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := storeFiles(ctx, w, m); err != nil {
		return err
	}
	if err := w.Flush(ctx); err != nil {
		return err
	}
	m.Packs = w.Relied()
	record, err := m.Encode()
	if err != nil {
		return err
	}
	return session.Commit(ctx, w, record)
}

// storeFiles stores three files and their list.
func storeFiles(ctx context.Context, w *cas.Writer, m *manifest.Manifest) error {
	files := []manifest.File{
		{Root: "datadir", Path: "empty", Kind: manifest.KindDir, Mode: 0o750},
		{Root: "datadir", Path: "ibdata1", Kind: manifest.KindFile, Size: 5 << 20, ChunkSize: 64 << 10, Mode: 0o640},
		{Root: "datadir", Path: "commerce/a b.ibd", Kind: manifest.KindFile, Size: 6 * 16 << 10, ChunkSize: 64 << 10, Mode: 0o640},
	}
	if m.Pages.Bad > 0 {
		files[2].Pages = manifest.NewFilePages(m.Pages, []manifest.BadPage{{Number: 3, Why: "checksum 0x1 stored, 0x2 computed"}})
	}
	var list bytes.Buffer
	if err := manifest.WriteFiles(&list, files); err != nil {
		return err
	}
	chunk := cas.Sum(list.Bytes())
	if _, err := w.Put(ctx, cas.KindMeta, chunk, list.Bytes()); err != nil {
		return err
	}
	m.Files = manifest.FileList{Count: int64(len(files)), Size: int64(list.Len()), ChunkSize: 64 << 10, Root: chunk}
	return nil
}

func fakeManifest(shard, name, mark string) (*manifest.Manifest, error) {
	keyspace, shardName, err := manifest.ParseKeyspaceShard(shard)
	if err != nil {
		return nil, err
	}
	parsed, err := manifest.ParseName(name)
	if err != nil {
		return nil, err
	}
	position, err := replication.ParsePosition("mysql:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-48")
	if err != nil {
		return nil, err
	}
	position.BinlogFile, position.BinlogOffset = "binlog.000007", 4711
	m := &manifest.Manifest{
		Keyspace: keyspace, Shard: shardName, Name: parsed, TabletAlias: parsed.Alias,
		Host: "db-07", ToolVersion: "0.1.0", Engine: manifest.EngineOffline,
		Server: manifest.Server{
			Flavor: replication.MySQL, Version: "9.7.4", VersionComment: "Debian", UUID: "9b1f9a02-71ca-11e1-9e33-c80aa9429562",
			ID: 101, DataDir: "/var/lib/mysql", PageSize: 16384, InnoDBDataFilePath: "ibdata1:12M:autoextend",
			GTIDMode: "ON", LogBin: "/var/lib/mysql/binlog", CharacterSet: "utf8mb4",
		},
		Started: parsed.Time, Finished: parsed.Time.Add(92 * time.Second), Downtime: 12.5,
		CleanStop: manifest.CleanStop{Proved: true, Signals: []string{"no ibtmp1"}, LSN: 19223451},
		Position:  position, PositionKnown: true,
		Source: manifest.Source{Host: "db-01", Port: 3306},
		State:  manifest.State{ReadOnly: true, SuperReadOnly: true},
		Roots:  []manifest.Root{{Name: "datadir", Path: "/var/lib/mysql"}},
		Totals: manifest.Totals{Plain: 5<<20 + 6*16<<10, Zero: 5 << 20, New: 65536, Stored: 20480, Chunks: 82, NewChunks: 1},
		Pages:  manifest.Pages{Checked: 325, Zero: 1},
	}
	if mark != "" {
		m.Pages.Bad = 1
		m.Marks = []manifest.Mark{manifest.NewMark(manifest.MarkKind(mark), strings.Repeat("x", 3))}
	}
	return m, nil
}
