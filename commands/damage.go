package commands

import (
	"fmt"
	"strings"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/check"
	"github.com/shardseed/shardseed/internal/ui"
)

// Bounds of what people are told; JSON has it all.
const (
	toldPacks   = 20
	toldBackups = 50
	toldRanges  = 10 // of one backup
)

// damageTeller tells what a check finds: as lines of JSON, all of it, or as text,
// the first of each kind and how many more there are.
type damageTeller struct {
	out     *ui.Printer
	packs   int
	backups int
	ranges  []string // of the next backup
	more    int      // of its ranges that are not among them
}

var _ check.Findings = (*damageTeller)(nil)

// Object implements check.Findings.
func (t *damageTeller) Object(o check.Object) {
	t.out.Object(struct {
		Type string `json:"type"` // "damaged_object"
		check.Object
	}{"damaged_object", o})
	t.out.Text("%s: %s", ui.Line(o.Name), ui.Line(o.Reason))
}

// Pack implements check.Findings.
func (t *damageTeller) Pack(p check.Pack) {
	t.out.Object(struct {
		Type string `json:"type"` // "damaged_pack"
		check.Pack
	}{"damaged_pack", p})
	if t.packs++; t.packs > toldPacks {
		return
	}
	t.out.Text("pack %s: %s%s", p.ID, ui.Line(p.Reason), packCounts(&p))
}

// packCounts says how much of a pack is damaged, and needed.
func packCounts(p *check.Pack) string {
	if p.Frames == 0 {
		return ""
	}
	use := "no backup needs any"
	if p.Needed > 0 {
		use = fmt.Sprintf("backups need %d", p.Needed)
	}
	return fmt.Sprintf("; %d of %d chunks are bad, %s", p.Bad, p.Frames, use)
}

// Range implements check.Findings.
func (t *damageTeller) Range(r check.Range) {
	t.out.Object(struct {
		Type string `json:"type"` // "damaged_range"
		check.Range
	}{"damaged_range", r})
	if len(t.ranges) == toldRanges {
		t.more++
		return
	}
	t.ranges = append(t.ranges, rangeText(&r))
}

func rangeText(r *check.Range) string {
	what := "list of files"
	if r.Part != check.PartList {
		what = fmt.Sprintf("%s %q", r.Root, string(r.Path))
		if r.Table != "" {
			what = fmt.Sprintf("%s (%s)", what, ui.Line(r.Table))
		}
	}
	state := "lost"
	if r.State == check.Salvageable {
		state = "can be salvaged"
	}
	if r.Part == check.PartRecipe {
		state += " (recipe)"
	}
	return fmt.Sprintf("%s: bytes %d to %d: %s%s", what, r.Offset, r.Offset+r.Length-1, state, packsText(r.Packs))
}

func packsText(packs []cas.ID) string {
	const most = 3
	if len(packs) == 0 {
		return ""
	}
	var names []string
	for _, id := range packs[:min(len(packs), most)] {
		names = append(names, id.Short())
	}
	text := ", by pack " + strings.Join(names, ", ")
	if len(packs) > most {
		text += fmt.Sprintf(" and %d more", len(packs)-most)
	}
	return text
}

// Backup implements check.Findings.
func (t *damageTeller) Backup(b check.Backup) {
	t.out.Object(struct {
		Type string `json:"type"` // "damaged_backup"
		check.Backup
	}{"damaged_backup", b})
	ranges, more := t.ranges, t.more
	t.ranges, t.more = nil, 0
	if t.backups++; t.backups > toldBackups {
		return
	}
	t.out.Text("backup %s/%s %s: %s", b.Keyspace, b.Shard, b.Name, backupDamage(&b))
	for _, text := range ranges {
		t.out.Text("  %s", text)
	}
	if more > 0 {
		t.out.Text("  and %s more", countOf(more, "range"))
	}
}

// backupDamage says how badly a backup is damaged.
func backupDamage(b *check.Backup) string {
	if b.Reason != "" {
		return "lost: " + ui.Line(b.Reason)
	}
	var parts []string
	if b.Lost > 0 {
		parts = append(parts, ui.Bytes(b.Lost)+" lost")
	}
	if b.Rescue > 0 {
		parts = append(parts, ui.Bytes(b.Rescue)+" can be salvaged")
	}
	if len(parts) == 0 {
		return "can be salvaged"
	}
	return fmt.Sprintf("%s, in %s", strings.Join(parts, ", "), countOf(b.Files, "file"))
}

// end tells how much was not told.
func (t *damageTeller) end() {
	if more := t.packs - toldPacks; more > 0 {
		t.out.Text("and %s more", countOf(more, "damaged pack"))
	}
	if more := t.backups - toldBackups; more > 0 {
		t.out.Text("and %s more", countOf(more, "damaged backup"))
	}
}
