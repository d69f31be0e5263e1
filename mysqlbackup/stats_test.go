package mysqlbackup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// Stats agree with the manifests, with the packs' directories, and with
// themselves.
func TestStats(t *testing.T) {
	c := newChurn(t, replication.MySQL)
	for range 3 {
		c.day(t, nil)
	}
	each, all, err := mysqlbackup.Stats(t.Context(), c.repo, c.made)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := c.repo.PackIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var frames [cas.CodecDelta + 1]mysqlbackup.CodecUsage
	var stored, meta int64
	for _, id := range ids {
		pack, err := c.repo.Pack(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for i := range pack.Frames {
			f := &pack.Frames[i]
			frames[f.Codec].Frames++
			frames[f.Codec].Plain += int64(f.PlainSize)
			frames[f.Codec].Stored += f.Size()
			stored += f.Size()
			if pack.Kind == cas.KindMeta {
				meta += f.Size()
			}
		}
	}
	if all.Codecs != frames || all.Stored != stored || all.Meta != meta {
		t.Errorf("all: got %+v, want frames %+v, %d bytes, %d of metadata", all, frames, stored, meta)
	}
	var plain, largest int64
	for day, usage := range each {
		m := c.made[day]
		plain += m.Totals.Plain
		largest = max(largest, usage.Stored)
		var chunks int64
		for _, n := range usage.Depths {
			chunks += n
		}
		if usage.Plain != m.Totals.Plain || usage.Unique > m.Totals.Plain-m.Totals.Zero || usage.Unique == 0 || chunks != usage.Chunks {
			t.Errorf("day %d: got %+v for %+v", day, usage, m.Totals)
		}
		if usage.Depths[day] == 0 || usage.Stored >= all.Stored && day > 0 {
			t.Errorf("day %d: got %+v", day, usage)
		}
	}
	if all.Plain != plain || all.Chunks < each[2].Chunks || all.Unique < each[2].Unique || all.Stored < largest {
		t.Errorf("all: got %+v of %+v", all, each)
	}
	alone, _, err := mysqlbackup.Stats(t.Context(), c.repo, c.made[2:])
	if err != nil || alone[0] != each[2] {
		t.Errorf("the third alone: got %+v, %v, want %+v", alone, err, each[2])
	}
	if none, all, err := mysqlbackup.Stats(t.Context(), c.repo, nil); err != nil || len(none) != 0 || all != (mysqlbackup.Usage{}) {
		t.Errorf("no backups: got %v, %+v, %v", none, all, err)
	}
	pack := c.rootPack(t, c.made[0])
	if err := os.Remove(filepath.Join(c.root, "packs", pack.ID.String()[:2], pack.ID.String())); err != nil {
		t.Fatal(err)
	}
	if _, _, err := mysqlbackup.Stats(t.Context(), c.repo, []*manifest.Manifest{c.made[2]}); !errors.Is(err, cas.ErrNotFound) || !strings.Contains(err.Error(), pack.ID.Short()) {
		t.Errorf("a pack is gone: got %v, want it named", err)
	}
}
