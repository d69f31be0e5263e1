package mysqlbackup

// Progress is told how a run goes on. Advance is called from many goroutines
// at once, everything else from one.
type Progress interface {
	// Step says that the named step begins; detail is for people.
	Step(name, detail string)
	// Warn tells something that does not stop the run.
	Warn(text string)
	// Begin, Advance and End frame a piece of work of total bytes.
	Begin(what string, total int64)
	Advance(n int64)
	End()
}

// Step is the name of a step of a run. The steps of a backup run in the order
// in which they stand here, those of a restore likewise.
type Step string

// The steps of [Backup].
const (
	StepIdentify        Step = "identify"
	StepPreCopy         Step = "pre-copy" // only if the files are large
	StepJournal         Step = "journal"
	StepDrain           Step = "drain" // only if the server is taken out of serving
	StepFence           Step = "fence"
	StepStopReplication Step = "stop-replication"
	StepPosition        Step = "position"
	StepStop            Step = "stop"
	StepLock            Step = "lock"
	StepProve           Step = "prove"
	StepCopy            Step = "copy"
	StepSeal            Step = "seal"
	StepStart           Step = "start"
	StepRecheck         Step = "recheck"
	StepPublish         Step = "publish"
	StepPutBack         Step = "put-back"
	StepCatchUp         Step = "catch-up"
	StepServe           Step = "serve" // only if it was taken out of serving
)

// The steps of [Restore]; [StepLock], [StepStart] and [StepCatchUp] are among
// them too.
const (
	StepPreflight Step = "preflight"
	StepClear     Step = "clear"
	StepFiles     Step = "files"
	StepSync      Step = "sync"
	StepFenced    Step = "fenced-start"
	StepSeed      Step = "seed"
	StepUnmark    Step = "unmark"
	StepProof     Step = "proof"
	StepConfigure Step = "configure" // of [Startup], before the others
)

// StepCheckTables is a step of [Verify], which has StepPreflight, StepFiles,
// StepFenced, StepPosition, this one, StepCatchUp and StepPublish.
const StepCheckTables Step = "check-tables"
