package check

import (
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// Findings is told what a check finds: objects, then packs, then backups, each
// after its ranges. One call at a time.
type Findings interface {
	Object(Object)
	Pack(Pack)
	Range(Range)
	Backup(Backup)
}

// Progress is told how a check goes on. Advance is called from many goroutines at
// once, everything else from one.
type Progress interface {
	Step(name, detail string)
	Warn(text string)
	Begin(what string, total int64) // bytes
	Advance(n int64)
	End()
}

// Object is a small object of the repository that is damaged, or that is there and
// should not be.
type Object struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// Kind is what is wrong with a pack.
type Kind string

// The kinds.
const (
	KindMissing   Kind = "missing"   // a record names it, and what it held is not found elsewhere
	KindDirectory Kind = "directory" // its end cannot be read: no chunk in it is found
	KindHeader    Kind = "header"    // its start is damaged
	KindForeign   Kind = "foreign"   // it belongs to another repository
	KindContent   Kind = "content"   // its bytes are not those that its name stands for, or a frame does not give its chunk
	KindMarked    Kind = "marked"    // it was marked as damaged, and has chunks that are nowhere else
	KindCondemned Kind = "condemned" // garbage collection has given it up, and it has chunks that are nowhere else
	KindRead      Kind = "read"      // it cannot be read
)

// Problem is one thing that is wrong with a pack.
type Problem struct {
	Kind   Kind
	Reason string
}

// Pack is a damaged pack.
type Pack struct {
	ID     cas.ID `json:"pack"`
	Kinds  []Kind `json:"kinds"`
	Reason string `json:"reason"`
	Size   int64  `json:"size_bytes"`    // of the file; 0 if it is missing
	Frames int    `json:"frames"`        // that are known
	Bad    int    `json:"bad_frames"`    // of these, those that were read and do not give their chunk
	Needed int    `json:"needed_frames"` // of these, those of chunks that the backups checked need
	Marked bool   `json:"marked"`
}

// State is what can be done about damage.
type State string

// The states.
const (
	Lost        State = "lost"        // no good copy was found
	Salvageable State = "salvageable" // the bytes are there, in a damaged pack: repair copies them
)

// Part is what of a file a damaged chunk holds.
type Part string

// The parts.
const (
	PartData   Part = "data"
	PartRecipe Part = "recipe" // a node of the file's recipe: what hangs on it is not known
	PartList   Part = "list"   // a part of the backup's list of files
)

// Range is a run of bytes of a file of a backup that hangs on damage.
type Range struct {
	Keyspace string        `json:"keyspace"`
	Shard    string        `json:"shard"`
	Name     string        `json:"name"` // of the backup
	Part     Part          `json:"part"`
	Root     string        `json:"root,omitempty"` // of the file; "" with PartList
	Path     manifest.Path `json:"path,omitempty"`
	Table    string        `json:"table,omitempty"` // database.table, if the path tells
	Offset   int64         `json:"offset_bytes"`    // of the file, or of the list
	Length   int64         `json:"length_bytes"`
	State    State         `json:"state"`
	Packs    []cas.ID      `json:"packs"` // that are to blame, sorted; none: the chunk is in no pack
}

// Backup is a backup that cannot be restored in full.
type Backup struct {
	Keyspace string   `json:"keyspace"`
	Shard    string   `json:"shard"`
	Name     string   `json:"name"`
	State    State    `json:"state"`
	Reason   string   `json:"reason,omitempty"` // of a record or list of files that cannot be read: all hangs on it
	Files    int      `json:"files"`            // with a range that hangs on damage
	Lost     int64    `json:"lost_bytes"`       // of files
	Rescue   int64    `json:"salvageable_bytes"`
	Tables   []string `json:"tables"` // sorted
}

// Summary is what a check comes to.
type Summary struct {
	Backups        int        `json:"backups"` // checked
	Damaged        int        `json:"damaged_backups"`
	Packs          int        `json:"packs"`
	Bytes          int64      `json:"pack_bytes"`
	Frames         int        `json:"frames"`
	DamagedPacks   int        `json:"damaged_packs"`
	DamagedObjects int        `json:"damaged_objects"`
	MarkedPacks    int        `json:"marked_packs"` // marked as damaged, whether or not they matter
	ReadPacks      int        `json:"read_packs"`   // in full
	ReadBytes      int64      `json:"read_bytes"`
	NeverRead      int        `json:"never_verified_packs"` // as the ledger has it now
	Oldest         *time.Time `json:"oldest_verified_time"` // of the packs that were verified; nil: none was
	Unreferenced   int        `json:"unreferenced_frames"`  // that no backup checked needs
	Repairable     bool       `json:"-"`                    // a repair can do something about the damage
	Lost           bool       `json:"-"`                    // data of backups is
	Advice         []string   `json:"-"`                    // what to do about objects and records that are damaged
	Errors         []error    `json:"-"`                    // records of newer programs, and the like: no damage, but not checked
}

// Whole tells whether nothing is damaged.
func (s *Summary) Whole() bool {
	return s.Damaged == 0 && s.DamagedPacks == 0 && s.DamagedObjects == 0
}
