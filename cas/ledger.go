package cas

import (
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

// Ledger says when packs were last read as a whole.
type Ledger struct {
	last     map[ID]Verified
	Problems []error // parts of it that cannot be read; what they said is not known
	segments int     // since the last summary
	newest   uint64  // generation
}

// Last returns the last verification of a pack; its Order is 0 if there is none.
func (l *Ledger) Last(pack ID) Verified { return l.last[pack] }

// The ledger; see docs/format.md, "Ledger".
const (
	ledgerDir        = "verified"
	ledgerHeaderSize = 16
	ledgerEntrySize  = 56
	ledgerSummary    = 64 // segments that are read one by one before a summary is written
)

// Ledger reads the ledger. A segment that is damaged is left out, and among the
// problems.
func (r *Repository) Ledger(ctx context.Context) (*Ledger, error) {
	gens, err := r.generations(ctx, ledgerDir)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	l := &Ledger{last: map[ID]Verified{}}
	var covered uint64 // generations up to this one are in a summary that was read
	for _, gen := range slices.Backward(gens) {
		l.newest = max(l.newest, gen)
		if gen <= covered {
			break
		}
		covers, err := r.readSegment(ctx, gen, l.last)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			l.Problems = append(l.Problems, err)
			continue
		}
		covered = max(covered, covers)
		if covers == 0 {
			l.segments++
		}
	}
	return l, nil
}

// readSegment takes in one generation, from which nothing newer is displaced.
func (r *Repository) readSegment(ctx context.Context, gen uint64, last map[ID]Verified) (covers uint64, err error) {
	name := generationName(ledgerDir, gen)
	o, err := readObject(ctx, r.backend, name, objectLedger)
	if err != nil {
		return 0, fmt.Errorf("read the ledger: %w", err)
	}
	covers, entries, err := decodeLedger(gen, o.payload)
	if err != nil {
		return 0, fmt.Errorf("read the ledger: %w", &CorruptError{Name: name, Reason: err.Error()})
	}
	for _, e := range entries {
		if e.Order > last[e.Pack].Order {
			last[e.Pack] = e
		}
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
	fresh := slices.Clone(entries)
	for i := range fresh {
		fresh[i].Order = 0
	}
	if _, err := r.putGeneration(ctx, ledgerDir, objectLedger, encodeLedger(0, fresh)); err != nil {
		return fmt.Errorf("write the ledger: %w", err)
	}
	return nil
}

// SummarizeLedger writes what the ledger says of the packs into one object, if it
// has become many: later readers need only that one and what follows it.
func (r *Repository) SummarizeLedger(ctx context.Context, l *Ledger, packs []ID) error {
	if l.segments < ledgerSummary || len(l.Problems) > 0 {
		return nil
	}
	if err := r.writable(); err != nil {
		return err
	}
	var entries []Verified
	for _, id := range packs {
		if e := l.last[id]; e.Order != 0 {
			entries = append(entries, e)
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

func encodeLedger(covers uint64, entries []Verified) []byte {
	buf := make([]byte, 0, ledgerHeaderSize+len(entries)*ledgerEntrySize)
	buf = binary.LittleEndian.AppendUint64(buf, covers)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(entries)))
	buf = append(buf, 0, 0, 0, 0)
	for _, e := range entries {
		buf = append(buf, e.Pack[:]...)
		buf = binary.LittleEndian.AppendUint64(buf, e.Order)
		buf = binary.LittleEndian.AppendUint64(buf, uint64(max(0, e.Time.Unix())))
		good := byte(0)
		if e.Good {
			good = 1
		}
		buf = append(buf, good, 0, 0, 0, 0, 0, 0, 0)
	}
	return buf
}

// decodeLedger reads the payload of a generation.
func decodeLedger(gen uint64, data []byte) (covers uint64, entries []Verified, err error) {
	if len(data) < ledgerHeaderSize {
		return 0, nil, fmt.Errorf("ledger of %d bytes", len(data))
	}
	covers = binary.LittleEndian.Uint64(data)
	count := int64(binary.LittleEndian.Uint32(data[8:]))
	if binary.LittleEndian.Uint32(data[12:]) != 0 {
		return 0, nil, errors.New("reserved field of the ledger is not 0")
	}
	if covers >= gen {
		return 0, nil, fmt.Errorf("ledger of generation %d sums up %d", gen, covers)
	}
	if int64(len(data)) != ledgerHeaderSize+count*ledgerEntrySize {
		return 0, nil, fmt.Errorf("ledger of %d bytes for %d packs", len(data), count)
	}
	for entry := range slices.Chunk(data[ledgerHeaderSize:], ledgerEntrySize) {
		e, err := decodeVerified(entry)
		if err == nil && (e.Order != 0) != (covers != 0) || e.Order > covers {
			err = fmt.Errorf("order %d in a ledger that sums up %d", e.Order, covers)
		}
		if err != nil {
			return 0, nil, fmt.Errorf("pack %s: %w", e.Pack.Short(), err)
		}
		if e.Order == 0 {
			e.Order = gen
		}
		entries = append(entries, e)
	}
	return covers, entries, nil
}

func decodeVerified(entry []byte) (Verified, error) {
	seconds := binary.LittleEndian.Uint64(entry[40:])
	e := Verified{Pack: ID(entry[:32]), Order: binary.LittleEndian.Uint64(entry[32:]), Good: entry[48] == 1}
	if entry[48] > 1 || [7]byte(entry[49:]) != ([7]byte{}) {
		return e, fmt.Errorf("flags %x are not known", entry[48:])
	}
	const most = 253402300799 // the last second of the year 9999
	if seconds > most {
		return e, fmt.Errorf("time %d is too late", seconds)
	}
	e.Time = time.Unix(int64(seconds), 0).UTC()
	return e, nil
}
