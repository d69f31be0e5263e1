package faults

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// trouble is a fault that lasts from a call on until the command has ended.
type trouble struct {
	name   string
	folder string // what is troubled
	errno  syscall.Errno
	to     func(c *call) bool
	away   bool // the folder is moved away instead, before such a call
}

func troubles() []trouble {
	changes := func(c *call) bool { return c.changes }
	return []trouble{
		{name: "the root is moved away", folder: "root", to: always, away: true},
		{name: "the root is read-only", folder: "root", errno: unix.EROFS, to: changes},
		{name: "the root is full", folder: "root", errno: unix.ENOSPC, to: takesRoom},
		{name: "the root does not answer", folder: "root", errno: unix.ESTALE, to: always},
		{name: "the target is full", folder: "target", errno: unix.EDQUOT, to: takesRoom},
		{name: "the target is read-only", folder: "target", errno: unix.EROFS, to: changes},
		{name: "the index is read-only", folder: "cache", errno: unix.EROFS, to: changes},
		{name: "the index can't be read", folder: "cache", errno: unix.EIO, to: always},
		{name: "the notes can't be written", folder: "state", errno: unix.ENOSPC, to: takesRoom},
	}
}

// TestTroubles lets each trouble begin before each call of each command.
func TestTroubles(t *testing.T) {
	eachStage(t, func(t *testing.T, s *stage) {
		calls := s.record(t)
		tried := 0
		for i, tr := range troubles() {
			for n, c := range calls {
				if tr.troubles(c) && (n*len(troubles())+i)%*stride == 0 {
					tried++
					s.suffer(t, tr, n+1)
				}
			}
		}
		t.Logf("%d cases", tried)
	})
}

// troubles tells calls that fail.
func (tr *trouble) troubles(c *call) bool {
	return (c.path == tr.folder || strings.HasPrefix(c.path, tr.folder+"/")) && tr.to(c)
}

// suffer runs the command, in trouble from the n-th call on.
func (s *stage) suffer(t *testing.T, tr trouble, n int) {
	w := s.fresh(t)
	count, begun := 0, false
	o := s.trace(t, w, func(c *call) verdict {
		count++
		if count < n {
			return verdict{}
		}
		if tr.away {
			if _, err := os.Lstat(w.in(tr.folder)); err == nil && !begun {
				begun = true
				if err := os.Rename(w.in(tr.folder), w.in("away")); err != nil {
					t.Error(err)
				}
			}
			return verdict{}
		}
		if !tr.troubles(c) {
			return verdict{}
		}
		begun = true
		return verdict{errno: tr.errno}
	})
	if !begun {
		s.drop(t, w)
		return
	}
	var wrong []string
	if tr.away {
		if _, err := os.Lstat(w.in(tr.folder)); err == nil {
			wrong = append(wrong, "the folder was made anew")
			if err := os.RemoveAll(w.in(tr.folder)); err != nil {
				t.Error(err)
			}
		}
		if err := os.Rename(w.in("away"), w.in(tr.folder)); err != nil {
			t.Error(err)
		}
	}
	switch o.code {
	case 0, 1:
	case 10:
		if !tr.away {
			wrong = append(wrong, "it says that there is no repository")
		}
	case 12:
		if tr.away || !o.tellsPacks() {
			wrong = append(wrong, "it says that the repository is damaged")
		}
	default:
		wrong = append(wrong, "that is no exit code for it")
	}
	wrong = append(wrong, s.verify(t, w, o)...)
	if len(wrong) > 0 {
		t.Errorf("%s from call %d on: %+v\n\t%s", tr.name, n, o, strings.Join(wrong, "\n\t"))
	}
	s.drop(t, w)
}
