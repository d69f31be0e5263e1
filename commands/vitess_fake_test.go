package commands_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"github.com/shardseed/shardseed/internal/mysqltest"
)

// The stand-ins for Vitess: vtctldclient, mysqlctl and a vttablet. They print
// what the programs of a v24 cluster printed (mysqlbackup/vitess/testdata),
// with the values of the test's own servers, and keep the cluster's state in a
// file of $VITESS_STATE. What they do to servers they do really, as the
// cluster did.

// fakeCluster is the state.
type fakeCluster struct {
	Cell    string        `json:"cell"`
	Primary uint32        `json:"primary"`
	Tablets []*fakeTablet `json:"tablets"`
}

type fakeTablet struct {
	UID    uint32 `json:"uid"`
	Type   string `json:"type"`
	Dir    string `json:"dir"` // of the server, with my.cnf
	Socket string `json:"socket"`
	Port   int    `json:"port"`
	Killed bool   `json:"killed"`  // vttablet was killed: its record stays as it was
	Down   bool   `json:"stopped"` // it was stopped in order: its record is emptied
}

// errFake is what a stand-in says on standard error; its exit code is 1.
func errFake(format string, args ...any) error { return fmt.Errorf(format, args...) }

// withCluster locks the state, calls do and writes the state back, all of it or
// nothing: a stand-in may be killed too.
func withCluster(do func(*fakeCluster) error) (err error) {
	path := filepath.Join(os.Getenv("VITESS_STATE"), "cluster.json")
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var c fakeCluster
	if err := json.Unmarshal(text, &c); err != nil {
		return err
	}
	if err := do(&c); err != nil {
		return err
	}
	if text, err = json.Marshal(c); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
}

func (c *fakeCluster) tablet(alias string) (*fakeTablet, error) {
	dash := max(strings.LastIndexByte(alias, '-'), 0)
	cell, digits := alias[:dash], alias[dash:]
	if cell != c.Cell {
		return nil, errFake("rpc error: code = Unknown desc = node doesn't exist: /vitess/global/cells/%s/CellInfo", cell)
	}
	uid, err := strconv.Atoi(strings.TrimPrefix(digits, "-"))
	if err != nil {
		return nil, errFake("invalid tablet alias: '%s', expecting format: '^(?P<cell>[-_.a-zA-Z0-9]+)-(?P<uid>[0-9]+)$'", alias)
	}
	for _, t := range c.Tablets {
		if int(t.UID) == uid {
			return t, nil
		}
	}
	return nil, errFake("rpc error: code = Unknown desc = node doesn't exist: /vitess/%s/tablets/%[1]s-%010d/Tablet", c.Cell, uid)
}

// fakeVtctldclient is the program vtctldclient. Everybody who calls it must
// give an action timeout.
func fakeVtctldclient() {
	out, err := vtctldclient(os.Args[1:])
	fmt.Print(out)
	if err != nil {
		text, _ := json.Marshal(map[string]any{"time": "2026-11-22T14:47:22.510199384Z", "level": "ERROR", "msg": err.Error()})
		fmt.Fprintln(os.Stderr, string(text))
		os.Exit(1)
	}
}

// noteCall adds a line to the calls of the story.
func noteCall(words ...any) error {
	log, err := os.OpenFile(filepath.Join(os.Getenv("VITESS_STATE"), "calls"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(log, words...)
	return errors.Join(err, log.Close())
}

func vtctldclient(args []string) (string, error) {
	if len(args) < 5 || args[0] != "--server" || args[2] != "--action-timeout" {
		return "", errFake("the test wants --server and --action-timeout first, got %q", args)
	}
	timeout, err := time.ParseDuration(args[3])
	if err != nil {
		return "", err
	}
	args = args[4:]
	down := exists(filepath.Join(os.Getenv("VITESS_STATE"), "down")) // whoever sees the call may bring it up
	if err := noteCall(strings.Join(args, " ")); err != nil {
		return "", err
	}
	if down { // it retries until its time is over
		time.Sleep(timeout)
		return "", errFake(`rpc error: code = DeadlineExceeded desc = latest balancer error: connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:15998: connect: connection refused"`)
	}
	var out string
	err = withCluster(func(c *fakeCluster) (err error) {
		out, err = c.do(timeout, args)
		out = strings.ReplaceAll(out, "zone1", c.Cell)
		return err
	})
	return out, err
}

func (c *fakeCluster) do(timeout time.Duration, args []string) (string, error) {
	switch args[0] {
	case "GetShard":
		state := os.Getenv("VITESS_STATE")
		if args[1] != "commerce/0" || exists(filepath.Join(state, "unknown")) {
			return "", errFake("rpc error: code = Unknown desc = node doesn't exist: /vitess/global/keyspaces/%s/Shard", strings.Replace(args[1], "/", "/shards/", 1))
		}
		if exists(filepath.Join(state, "orphan")) {
			return regexp.MustCompile(`(?s)"primary_alias": \{.*?\}`).ReplaceAllString(recorded("getshard.out"), `"primary_alias": null`), nil
		}
		return strings.Replace(recorded("getshard.out"), `"uid": 100`, fmt.Sprintf(`"uid": %d`, c.Primary), 1), nil
	case "GetTablets":
		if !slices.Equal(args[1:], []string{"--keyspace", "commerce", "--shard", "0", "--format", "json"}) {
			return "", errFake("rpc error: code = Unknown desc = GetTabletMapForShard(%s, 0) failed: node doesn't exist: /vitess/global/keyspaces/nosuch/shards/0/Shard", args[2])
		}
		var entries []string
		for _, t := range c.Tablets {
			entries = append(entries, strings.Trim(t.fill(recorded("gettablets-alias-json.out")), "[]\n"))
		}
		return "[\n" + strings.Join(entries, ",\n") + "\n]\n", nil
	case "PlannedReparentShard", "EmergencyReparentShard":
		return "", c.reparentShard(args[0] == "PlannedReparentShard", args[3])
	}
	t, err := c.tablet(args[1])
	if err != nil {
		return "", err
	}
	switch args[0] {
	case "ExecuteHook":
		return askVttablet(timeout, args[1], args[2:])
	case "GetTablet":
		return t.fill(recorded("gettablet-replica.out")), nil
	case "GetFullStatus":
		return t.fullStatus()
	case "ChangeTabletType":
		return t.changeType(args[2])
	case "StopReplication":
		return "", t.exec("StopReplication", "STOP REPLICA")
	case "StartReplication":
		return "", t.exec("StartReplication", "START REPLICA")
	case "ReparentTablet":
		text := strings.Replace(recorded("reparenttablet-105.out"), `"uid": 100`, fmt.Sprintf(`"uid": %d`, c.Primary), 1)
		return text, c.follow(t, "SetReplicationSource")
	}
	return "", errFake("the stand-in does not know %q", args[0])
}

func recorded(name string) string {
	text, err := os.ReadFile(filepath.Join(os.Getenv("VITESS_RECORDED"), name))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// fill puts the tablet's values in place of those of the recorded zone1-101.
func (t *fakeTablet) fill(text string) string {
	numbers := map[string]int{"PRIMARY": 1, "REPLICA": 2, "RDONLY": 3, "SPARE": 4, "BACKUP": 6, "DRAINED": 8}
	text = strings.NewReplacer(
		`"uid": 101`, fmt.Sprintf(`"uid": %d`, t.UID), `"mysql_port": 17101`, fmt.Sprintf(`"mysql_port": %d`, t.Port),
		`"vt": 15101`, fmt.Sprintf(`"vt": %d`, 15000+t.UID), `"grpc": 16101`, fmt.Sprintf(`"grpc": %d`, 16000+t.UID),
		`"type": 2`, fmt.Sprintf(`"type": %d`, numbers[t.Type]), `"type": "REPLICA"`, fmt.Sprintf(`"type": %q`, t.Type),
	).Replace(text)
	if t.Down {
		text = regexp.MustCompile(`"((mysql_)?hostname)": "127.0.0.1"`).ReplaceAllString(text, `"$1": ""`)
		text = regexp.MustCompile(`(?s)"port_map": \{.*?\}`).ReplaceAllString(text, `"port_map": {}`)
	}
	return text
}

// connect opens the tablet's server as vttablet does.
func (t *fakeTablet) connect(rpc string) (*sql.DB, error) {
	if t.Killed || t.Down {
		return nil, errFake(`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:%d: connect: connection refused"`, 16000+t.UID)
	}
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = mysqltest.User, mysqltest.Password, "unix", t.Socket
	cfg.Timeout = 5 * time.Second
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	if err := db.Ping(); err != nil {
		return nil, errFake("rpc error: code = Unknown desc = rpc error: code = Unavailable desc = TabletManager.%s on zone1-%010d: net.Dial(%s) to local server failed: dial unix %[3]s: connect: no such file or directory (errno 2002) (sqlstate HY000)",
			rpc, t.UID, t.Socket)
	}
	return db, nil
}

func (t *fakeTablet) exec(rpc string, statements ...string) error {
	db, err := t.connect(rpc)
	if err != nil {
		return err
	}
	defer closeDB(db)
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			return errFake("rpc error: code = Unknown desc = TabletManager.%s on zone1-%010d error: %v", rpc, t.UID, err)
		}
	}
	return nil
}

// closeDB ends connections; what they have done is done.
func closeDB(db *sql.DB) { _ = db.Close() }

// values returns the first row of a query by column; nil if there is none.
func values(db *sql.DB, query string) (map[string]string, error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errors.Join(err, rows.Err())
	}
	cells, targets := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range cells {
		targets[i] = &cells[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	row := map[string]string{}
	for i, cell := range cells {
		row[columns[i]] = cell.String
	}
	return row, rows.Err()
}

func (t *fakeTablet) fullStatus() (string, error) {
	db, err := t.connect("FullStatus")
	if err != nil {
		return "", err
	}
	defer closeDB(db)
	row, err := values(db, "SELECT @@server_uuid AS uuid")
	if err != nil {
		return "", err
	}
	replica, err := values(db, "SHOW REPLICA STATUS")
	if err != nil {
		return "", err
	}
	semi := map[string]string{"Rpl_semi_sync_replica_status": "OFF", "Rpl_semi_sync_source_status": "OFF", "Rpl_semi_sync_source_clients": "0"}
	for name := range semi {
		if got, err := values(db, "SHOW GLOBAL STATUS LIKE '"+name+"'"); err == nil && got != nil {
			semi[name] = got["Value"]
		}
	}
	states := map[string]string{"Yes": "3", "Connecting": "2", "No": "1"}
	text := strings.NewReplacer(
		"57ba3005-e683-11f1-82a7-02fc00000001", row["uuid"],
		`"io_state": 3`, `"io_state": `+states[replica["Replica_IO_Running"]], `"sql_state": 3`, `"sql_state": `+states[replica["Replica_SQL_Running"]],
		"\n"+`  "semi_sync_replica_status": true`, fmt.Sprintf("\n  \"semi_sync_replica_status\": %t", semi["Rpl_semi_sync_replica_status"] == "ON"),
		"\n"+`  "semi_sync_primary_status": false`, fmt.Sprintf("\n  \"semi_sync_primary_status\": %t", semi["Rpl_semi_sync_source_status"] == "ON"),
		`"semi_sync_primary_clients": 0`, `"semi_sync_primary_clients": `+semi["Rpl_semi_sync_source_clients"],
	).Replace(recorded("getfullstatus-replica.out"))
	if replica == nil {
		text = regexp.MustCompile(`(?s)"replication_status": \{.*?\n  \},`).ReplaceAllString(text, `"replication_status": null,`)
	}
	return text, nil
}

// changeType does what was seen: semi-synchronous replication is set up for
// the type, and replication that runs is bounced.
func (t *fakeTablet) changeType(to string) (string, error) {
	if t.Type == "PRIMARY" {
		return "", errFake(`rpc error: code = Unknown desc = tablet cell:"zone1" uid:%d type change PRIMARY -> %s is not an allowed transition for ChangeTabletType`, t.UID, to)
	}
	db, err := t.connect("ChangeType")
	if err != nil {
		return "", err
	}
	defer closeDB(db)
	if err := setUpType(db, to); err != nil {
		return "", err
	}
	line := func(kind string) string {
		return fmt.Sprintf("zone1-%010d commerce 0 %s 127.0.0.1:%d 127.0.0.1:%d [] <null>\n", t.UID, strings.ToLower(kind), 15000+t.UID, t.Port)
	}
	text := "- " + line(t.Type) + "+ " + line(to)
	t.Type = to
	return text, nil
}

func setUpType(db *sql.DB, kind string) error {
	if row, err := values(db, "SHOW VARIABLES LIKE 'rpl_semi_sync_replica_enabled'"); err != nil || row == nil {
		return err
	}
	statements := []string{fmt.Sprintf("SET GLOBAL rpl_semi_sync_replica_enabled = %t", kind == "REPLICA")}
	replica, err := values(db, "SHOW REPLICA STATUS")
	if err != nil {
		return err
	}
	if replica["Replica_IO_Running"] != "No" && replica != nil {
		statements = append(statements, "STOP REPLICA IO_THREAD", "START REPLICA IO_THREAD")
	}
	for _, statement := range statements {
		if _, err := db.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

// follow points a tablet's server at the shard's primary; stopped replication
// stays stopped.
func (c *fakeCluster) follow(t *fakeTablet, rpc string) error {
	primary, err := c.tablet(fmt.Sprintf("%s-%d", c.Cell, c.Primary))
	if err != nil {
		return err
	}
	db, err := t.connect(rpc)
	if err != nil {
		return err
	}
	defer closeDB(db)
	replica, err := values(db, "SHOW REPLICA STATUS")
	if err != nil {
		return err
	}
	statements := []string{"STOP REPLICA", fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%d, SOURCE_USER='%s', SOURCE_PASSWORD='%s', "+
		"SOURCE_CONNECT_RETRY=1, SOURCE_SSL=1, SOURCE_AUTO_POSITION=1", primary.Port, mysqltest.ReplUser, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(mysqltest.ReplPassword))}
	if replica["Replica_SQL_Running"] == "Yes" {
		statements = append(statements, "START REPLICA")
	}
	for range 600 { // a server that has just started may start its threads after they were stopped
		err = t.exec(rpc, statements...)
		if err == nil || !strings.Contains(err.Error(), "Error 3081") {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// reparentShard makes another tablet the primary. A planned one asks every
// tablet's server first, one that is being backed up too; an emergency leaves
// out what does not answer.
func (c *fakeCluster) reparentShard(planned bool, alias string) error {
	next, err := c.tablet(alias)
	if err != nil {
		return err
	}
	var reached []*fakeTablet
	for _, t := range c.Tablets {
		db, err := t.connect("GetGlobalStatusVars")
		if err == nil {
			reached = append(reached, t)
			err = db.Close()
		}
		if err != nil && planned {
			return err
		}
	}
	for _, t := range c.Tablets {
		if t.UID == c.Primary {
			t.Type = "REPLICA"
			if err := t.exec("DemotePrimary", "SET GLOBAL super_read_only = 1"); err != nil && planned {
				return err
			}
		}
	}
	if err := next.exec("PromoteReplica", "STOP REPLICA", "RESET REPLICA ALL", "SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0"); err != nil {
		return err
	}
	next.Type, c.Primary = "PRIMARY", next.UID
	for _, t := range reached {
		if t == next {
			continue
		}
		started := t.Type != "BACKUP"
		if err := c.follow(t, "SetReplicationSource"); err != nil {
			return err
		}
		if started {
			if err := t.exec("StartReplication", "START REPLICA"); err != nil {
				return err
			}
		}
	}
	return nil
}

// fakeVttablet is the program "vttablet kill|join|stop|start|serve ALIAS" of
// the stories. One that serves is a process, which kill ends. One that joins was only cut off, and goes on as it was.
// One that starts needs its server; it becomes a REPLICA again and sets up
// replication from the current primary.
func fakeVttablet() {
	if os.Args[1] == "serve" {
		serveHooks(os.Args[2])
	}
	err := withCluster(func(c *fakeCluster) error {
		t, err := c.tablet(os.Args[2])
		if err != nil && os.Args[1] == "kill" {
			return nil // nobody has heard of it
		}
		if err != nil && os.Args[1] == "start" {
			t, err = c.register(os.Args[2])
		}
		if err != nil {
			return err
		}
		switch os.Args[1] {
		case "kill":
			t.Killed = true
			return killVttablet()
		case "join":
			t.Killed = false
			return nil
		case "stop":
			t.Down = true
			return nil
		}
		was := *t
		t.Killed, t.Down = false, false
		if err := t.exec("Start", "DO 1"); err != nil {
			*t = was
			return err // it exits
		}
		if t.UID == c.Primary {
			t.Type = "PRIMARY"
			return nil
		}
		t.Type = "REPLICA"
		if err := c.follow(t, "SetReplicationSource"); err != nil {
			return err
		}
		db, err := t.connect("Start")
		if err != nil {
			return err
		}
		defer closeDB(db)
		return errors.Join(setUpType(db, t.Type), t.exec("StartReplication", "START REPLICA"))
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// register makes a new tablet of what is in its folder.
func (c *fakeCluster) register(alias string) (*fakeTablet, error) {
	uid, err := strconv.Atoi(strings.TrimPrefix(alias, "zone1-"))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(os.Getenv("VTDATAROOT"), fmt.Sprintf("vt_%010d", uid))
	text, err := os.ReadFile(filepath.Join(dir, "my.cnf"))
	if err != nil {
		return nil, err
	}
	t := &fakeTablet{UID: uint32(uid), Type: "REPLICA", Dir: dir}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "socket":
			t.Socket = value
		case "port":
			if t.Port, err = strconv.Atoi(value); err != nil {
				return nil, err
			}
		}
	}
	c.Tablets = append(c.Tablets, t)
	return t, nil
}

// fakeMysqlctl is the program mysqlctl, which really stops and starts a
// tablet's server, without looking at more than its files, as the real one.
func fakeMysqlctl() {
	if err := mysqlctl(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "E1122 15:04:05.000000    4711 main.go:100] %v\n", err)
		os.Exit(1)
	}
}

func mysqlctl(args []string) error {
	call := strings.Join(args, " ")
	if match := regexp.MustCompile(`^--tablet-uid (\d+) --mysql-port (\d+) init_config$`).FindStringSubmatch(call); match != nil {
		return initConfig(match[1], match[2])
	}
	match := regexp.MustCompile(`^(--mysqlctl-socket (\S+) )?--tablet-uid (\d+) (shutdown|start) --wait-time (\S+)$`).FindStringSubmatch(call)
	if match == nil {
		return fmt.Errorf("the stand-in does not know %q", call)
	}
	if err := noteCall("mysqlctl", strings.TrimSpace(match[1]), match[4]); err != nil {
		return err
	}
	if match[2] != "" {
		conn, err := net.Dial("unix", match[2])
		if err != nil {
			return fmt.Errorf("failed to connect: %w", err)
		}
		_ = conn.Close()
	}
	uid, err := strconv.Atoi(match[3])
	if err != nil {
		return err
	}
	wait, err := time.ParseDuration(match[5])
	if err != nil {
		return err
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(os.Getenv("VTDATAROOT"), fmt.Sprintf("vt_%010d", uid)))
	if err != nil {
		return err
	}
	if match[4] == "shutdown" {
		return shutdownMysqld(dir, wait)
	}
	return startMysqld(dir, wait)
}

// initConfig makes my.cnf and an empty folder for the data, as "mysqlctl
// init_config" does, with another server_id each time.
func initConfig(uid, port string) error {
	if err := noteCall("mysqlctl", "init_config"); err != nil {
		return err
	}
	dir := filepath.Join(os.Getenv("VTDATAROOT"), "vt_"+strings.Repeat("0", 10-len(uid))+uid)
	text, err := os.ReadFile(filepath.Join(dir, "my.cnf.template"))
	if err != nil {
		return err
	}
	const documented = "17103"
	if port != documented && !strings.Contains(string(text), "\nport="+port+"\n") {
		return fmt.Errorf("port %s is not that of the test's server", port)
	}
	id := fmt.Sprintf("\nserver-id=%d\n", 1<<20+time.Now().UnixNano()%(1<<30))
	text = regexp.MustCompile(`\nserver-id=\d+\n`).ReplaceAllLiteral(text, []byte(id))
	return errors.Join(os.MkdirAll(filepath.Join(dir, "data"), 0o750), os.WriteFile(filepath.Join(dir, "my.cnf"), text, 0o600))
}

// listenOnSocket is the program "socket FILE [stale]": it accepts connections as
// a mysqlctld does, for a minute at most; a stale one only leaves the file.
func listenOnSocket() {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1]})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) > 2 {
		listener.SetUnlinkOnClose(false)
		_ = listener.Close()
		return
	}
	time.AfterFunc(time.Minute, func() { os.Exit(0) })
	for {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.Close()
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// shutdownMysqld returns as soon as socket and pid file are gone.
func shutdownMysqld(dir string, wait time.Duration) error {
	socket, pidFile := filepath.Join(dir, "sock"), filepath.Join(dir, "pid")
	if !exists(socket) && !exists(pidFile) {
		fmt.Fprintln(os.Stderr, "assuming mysqld already shut down - no socket, no pid file found")
		return nil
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	return until(wait, "mysqld to shut down", func() bool { return !exists(socket) && !exists(pidFile) })
}

// startMysqld waits for the socket, whoever made it, and leaves behind a mysqld
// that does not come up.
func startMysqld(dir string, wait time.Duration) error {
	socket := filepath.Join(dir, "sock")
	if conn, err := net.Dial("unix", socket); err == nil {
		_ = conn.Close()
		return errors.New("process is still running")
	}
	cmd := exec.Command(os.Getenv("VITESS_MYSQLD"), "--defaults-file="+filepath.Join(dir, "my.cnf"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	if exists(filepath.Join(os.Getenv("VITESS_STATE"), "fragile")) { // nobody notices
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
	}
	return until(wait, "mysqld socket file", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func until(wait time.Duration, what string, done func() bool) error {
	for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return nil
		}
	}
	return fmt.Errorf("deadline exceeded waiting for %s", what)
}
