package cas

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Verified is what came of reading the whole of a pack.
type Verified struct {
	Pack  ID
	Good  bool
	Time  time.Time // UTC, whole seconds, by the clock of who did it: for people
	Order uint64    // later ones are higher, whatever clocks say; 0: not recorded yet
}

// Ledger says when packs were last read as a whole. It takes 56 bytes for each.
type Ledger struct {
	entries  []ledgerEntry // sorted by pack, each once, but for what was taken in last
	settled  int           // of them are so
	Problems []error       // parts of it that cannot be read; what they said is not known
	segments int           // since the last summary, damaged ones too
	newest   uint64        // generation
	damaged  uint64        // newest generation that is; 0: none
	unread   bool          // a part may be read later, or by a newer program
}

// Damaged tells whether a part of the ledger is lost. A summary sets it aside.
func (l *Ledger) Damaged() bool { return l.damaged > 0 }

// Long tells whether the ledger has so many parts that it should be summarized.
func (l *Ledger) Long() bool { return l.segments >= ledgerSummary }

// Last returns the last verification of a pack; its Order is 0 if there is none.
func (l *Ledger) Last(pack ID) Verified {
	at, found := slices.BinarySearchFunc(l.entries, pack, func(e ledgerEntry, pack ID) int { return e.pack().Compare(pack) })
	if !found {
		return Verified{}
	}
	return l.entries[at].verified()
}

// settle sorts what was taken in, and keeps of each pack what came last; of what
// came together, what is worse.
func (l *Ledger) settle() {
	slices.SortFunc(l.entries, func(a, b ledgerEntry) int {
		return cmp.Or(bytes.Compare(a[:ledgerOrder], b[:ledgerOrder]), cmp.Compare(b.order(), a.order()), cmp.Compare(a[ledgerGood], b[ledgerGood]))
	})
	l.entries = slices.CompactFunc(l.entries, func(a, b ledgerEntry) bool { return a.pack() == b.pack() })
	l.settled = len(l.entries)
}

// The ledger; see docs/format.md, "Ledger".
const (
	ledgerDir        = "verified"
	ledgerHeaderSize = 16
	ledgerEntrySize  = 56
	ledgerSummary    = 64       // segments that are read one by one before a summary is written
	ledgerUnsettled  = 16 << 10 // entries that are taken in at least before they are sorted
)

// Where the parts of an entry are, behind the pack's ID.
const (
	ledgerOrder = 32
	ledgerTime  = 40
	ledgerGood  = 48
)

// ledgerEntry is an entry as it is stored, but always with its order.
type ledgerEntry [ledgerEntrySize]byte

func newLedgerEntry(v Verified) ledgerEntry {
	var e ledgerEntry
	copy(e[:], v.Pack[:])
	e.setOrder(v.Order)
	binary.LittleEndian.PutUint64(e[ledgerTime:], uint64(max(0, v.Time.Unix())))
	if v.Good {
		e[ledgerGood] = 1
	}
	return e
}

func (e *ledgerEntry) pack() ID              { return ID(e[:ledgerOrder]) }
func (e *ledgerEntry) order() uint64         { return binary.LittleEndian.Uint64(e[ledgerOrder:]) }
func (e *ledgerEntry) setOrder(order uint64) { binary.LittleEndian.PutUint64(e[ledgerOrder:], order) }
func (e *ledgerEntry) seconds() uint64       { return binary.LittleEndian.Uint64(e[ledgerTime:]) }

func (e *ledgerEntry) verified() Verified {
	return Verified{Pack: e.pack(), Good: e[ledgerGood] == 1, Time: time.Unix(int64(e.seconds()), 0).UTC(), Order: e.order()}
}

// Ledger reads the ledger. A segment that is damaged is left out, and among the
// problems.
func (r *Repository) Ledger(ctx context.Context) (*Ledger, error) {
	gens, err := r.generations(ctx, ledgerDir)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	l := &Ledger{}
	var covered uint64 // generations up to this one are in a summary that was read
	for _, gen := range slices.Backward(gens) {
		l.newest = max(l.newest, gen)
		if gen <= covered {
			break
		}
		covers, err := r.readSegment(ctx, gen, l)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			l.problem(gen, err)
			continue
		}
		covered = max(covered, covers)
		if covers == 0 {
			l.segments++
		}
		if len(l.entries) > 2*l.settled+ledgerUnsettled {
			l.settle()
		}
	}
	l.settle()
	return l, nil
}

// problem notes a generation that cannot be read.
func (l *Ledger) problem(gen uint64, err error) {
	l.Problems = append(l.Problems, err)
	l.segments++
	if errors.Is(err, ErrCorrupt) {
		l.damaged = max(l.damaged, gen)
	} else {
		l.unread = true
	}
}

// readSegment takes in one generation.
func (r *Repository) readSegment(ctx context.Context, gen uint64, l *Ledger) (covers uint64, err error) {
	name := generationName(ledgerDir, gen)
	o, err := readObject(ctx, r.backend, name, objectLedger)
	if err != nil {
		return 0, fmt.Errorf("read the ledger: %w", err)
	}
	covers, l.entries, err = decodeLedger(l.entries, gen, o.payload)
	if err != nil {
		return 0, fmt.Errorf("read the ledger: %w", &CorruptError{Name: name, Reason: err.Error()})
	}
	return covers, nil
}

// RecordVerified adds to the ledger; the entries' orders do not matter. One call
// is one object: it is made every so often, so that little is lost when a run is
// killed.
func (r *Repository) RecordVerified(ctx context.Context, entries []Verified) error {
	if err := r.writable(); err != nil {
		return err
	}
	fresh := make([]ledgerEntry, len(entries))
	for i := range entries {
		fresh[i] = newLedgerEntry(entries[i])
		fresh[i].setOrder(0)
	}
	if _, err := r.putGeneration(ctx, ledgerDir, objectLedger, encodeLedger(0, fresh)); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// SummarizeLedger writes what the ledger says of the packs into one object: later
// readers need only that one and what follows it. Damaged parts are left behind by
// that: since they may have said that a pack is bad, what was said before them that
// a pack is good does not count any more. If a part may be readable later, or by a
// newer program, it does nothing.
func (r *Repository) SummarizeLedger(ctx context.Context, l *Ledger, packs []ID) error {
	if l.unread {
		return nil
	}
	if err := r.writable(); err != nil {
		return err
	}
	var entries []ledgerEntry
	for _, id := range packs {
		if v := l.Last(id); v.Order != 0 && (!v.Good || v.Order > l.damaged) {
			entries = append(entries, newLedgerEntry(v))
		}
	}
	payload := encodeLedger(l.newest, entries)
	if len(payload) > maxPayload {
		return nil
	}
	if _, err := r.putGeneration(ctx, ledgerDir, objectLedger, payload); err != nil {
		return fmt.Errorf("summarize the ledger: %w", err)
	}
	return nil
}

func encodeLedger(covers uint64, entries []ledgerEntry) []byte {
	buf := make([]byte, 0, ledgerHeaderSize+len(entries)*ledgerEntrySize)
	buf = binary.LittleEndian.AppendUint64(buf, covers)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(entries)))
	buf = append(buf, 0, 0, 0, 0)
	for i := range entries {
		buf = append(buf, entries[i][:]...)
	}
	return buf
}

// decodeLedger appends the entries in the payload of a generation. With an error
// it appends none.
func decodeLedger(entries []ledgerEntry, gen uint64, data []byte) (covers uint64, _ []ledgerEntry, err error) {
	if len(data) < ledgerHeaderSize {
		return 0, entries, fmt.Errorf("ledger of %d bytes", len(data))
	}
	covers = binary.LittleEndian.Uint64(data)
	count := int64(binary.LittleEndian.Uint32(data[8:]))
	if binary.LittleEndian.Uint32(data[12:]) != 0 {
		return 0, entries, errors.New("reserved field of the ledger is not 0")
	}
	if covers >= gen {
		return 0, entries, fmt.Errorf("ledger of generation %d sums up %d", gen, covers)
	}
	if int64(len(data)) != ledgerHeaderSize+count*ledgerEntrySize {
		return 0, entries, fmt.Errorf("ledger of %d bytes for %d packs", len(data), count)
	}
	all := slices.Grow(entries, int(count))
	for stored := range slices.Chunk(data[ledgerHeaderSize:], ledgerEntrySize) {
		e := ledgerEntry(stored)
		err := e.validate()
		if order := e.order(); err == nil && (order != 0) != (covers != 0) || order > covers {
			err = fmt.Errorf("order %d in a ledger that sums up %d", order, covers)
		}
		if err != nil {
			return 0, entries, fmt.Errorf("pack %s: %w", e.pack().Short(), err)
		}
		if e.order() == 0 {
			e.setOrder(gen)
		}
		all = append(all, e)
	}
	return covers, all, nil
}

func (e *ledgerEntry) validate() error {
	if e[ledgerGood] > 1 || [7]byte(e[ledgerGood+1:]) != ([7]byte{}) {
		return fmt.Errorf("flags %x are not known", e[ledgerGood:])
	}
	const most = 253402300799 // the last second of the year 9999
	if e.seconds() > most {
		return fmt.Errorf("time %d is too late", e.seconds())
	}
	return nil
}
