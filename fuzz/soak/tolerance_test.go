package soak

import (
	"regexp"
	"slices"
	"time"
)

// disturbance is what the soak does to a run of the program.
type disturbance string

const (
	serverDown disturbance = "server" // a server of the shard was killed, and is perhaps not up again
	impatient  disturbance = "prune"  // a collection was at work that ends sessions and readers after seconds
	removed    disturbance = "rm"     // somebody removes backups of the shard
	twoAtOnce  disturbance = "twice"  // another command works on the same server
	told       disturbance = "term"   // the run itself got a SIGTERM
	again      disturbance = "again"  // the same restore was killed before: perhaps when all was done
)

// tolerance is a way in which a command may end other than by 0.
type tolerance struct {
	command string
	code    int
	during  disturbance // ""; may always be
	says    string      // what standard error must match
	why     string
}

// tolerances are all there are: whatever else happens is a bug, of the program or
// of this table. 3, 7, 8, 10 and 12 are never all right; 130 is after a SIGTERM.
func tolerances() []tolerance {
	return []tolerance{
		{"backup", 13, "", "backs up", "another tablet backs up the shard, or was killed when it did"},
		{"backup", 13, twoAtOnce, "", "another backup works on this server"},
		{"backup", 1, serverDown, "", "the server went away"},
		{"backup", 4, serverDown, "", "it went away once the backup was made, or the primary did"},
		{"backup", 5, serverDown, "", "it went away while it was put back"},
		{"backup", 6, serverDown, "", "it was not there when the backup began"},
		{"backup", 1, impatient, "revoked|ended by|needs", "a collection ended the session"},
		{"backup", 4, told, "terminated signal", "the backup was made, and the replica had not caught up"},
		{"recover", 13, twoAtOnce, "", "a backup works on this server"},
		{"recover", 1, serverDown, "", "the server went away"},
		{"recover", 4, serverDown, "", "likewise"},
		{"recover", 5, serverDown, "", "likewise"},
		{"restore", 1, removed, "", "the backup was removed before it was read"},
		{"restore", 4, serverDown, "", "the primary went away"},
		{"restore", 6, serverDown, "", "likewise"},
		{"restore", 1, serverDown, "", "likewise"},
		{"restore", 6, again, "not empty|stop it first", "it had come to its end before it was killed"},
		{"verify", 1, removed, "", "the backup was removed before it was read"},
		{"rm", 6, "", "pinned|newest good", "it must not be removed"},
		{"rm", 1, removed, "", "it has been removed"},
		{"pin", 1, removed, "", "it has been removed, or is being"},
		{"unpin", 1, removed, "", "it has been removed"},
		{"health", 9, "", "", "the server does not serve: killed, or being backed up"},
	}
}

// span is a time during which a disturbance lasts; its end is zero as long as it does.
type span struct {
	kind       disturbance
	shard      string // "" for all
	began, end time.Time
}

// overlaps tells whether the span has a moment between two times. A backup that was
// removed may have been chosen a while before.
func (s *span) overlaps(began, ended time.Time) bool {
	if s.kind == removed {
		began = began.Add(-20 * time.Second)
	}
	return !s.began.After(ended) && (s.end.IsZero() || !s.end.Before(began))
}

// disturb says that a disturbance begins; the function it returns ends it, and
// does nothing when it is called again.
func (w *world) disturb(kind disturbance, shard string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &span{kind: kind, shard: shard, began: time.Now()}
	w.spans = append(w.spans, s)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s.end.IsZero() {
			s.end = time.Now()
		}
	}
}

// disturbed tells whether a run of a shard was.
func (w *world) disturbed(kind disturbance, shard string, began, ended time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.spans, func(s *span) bool {
		return s.kind == kind && (s.shard == "" || shard == "" || s.shard == shard) && s.overlaps(began, ended)
	})
}

// tolerated tells whether a run may have ended as it did.
func (w *world) tolerated(r *result) bool {
	switch {
	case r.code == 0, r.code == -1 && (r.struck == kill || r.struck == term), r.code == 130 && r.struck == term:
		return true
	}
	return slices.ContainsFunc(tolerances(), func(t tolerance) bool {
		return t.command == r.command && t.code == r.code && regexp.MustCompile(t.says).MatchString(r.stderr) &&
			(t.during == "" || t.during == told && r.struck == term || w.disturbed(t.during, r.shard, r.began, r.ended))
	})
}
