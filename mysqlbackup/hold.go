package mysqlbackup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/manifest"
)

// Note says in the repository who did something, when and why.
type Note struct {
	Time        time.Time `json:"time"` // UTC
	Host        string    `json:"host"` // "": not known
	ToolVersion string    `json:"tool_version"`
	Reason      string    `json:"reason,omitempty"` // as it was given; one line
}

// holdState is what a hold says of its backup.
type holdState string

const (
	holdPinned   holdState = "pinned"   // nobody removes it
	holdOpen     holdState = "open"     // as if there were no hold
	holdRemoving holdState = "removing" // about to be forgotten: nobody pins it any more
)

// hold decides between those who pin a backup and those who remove it. It is a
// value of the repository whose generations follow each other one by one, so
// that all hosts agree which of two came first.
type hold struct {
	Version int       `json:"version"` // 1
	State   holdState `json:"state"`
	Note
}

const holdVersion = 1

func holdsOf(keyspace manifest.Keyspace, shard manifest.Shard) string {
	return "holds/" + string(keyspace) + "/" + string(shard)
}

func holdName(key cas.Key) string { return "holds/" + string(key) }

// decodeHold reads a hold; what it does not know is an error, since a backup
// that a newer program holds in a way of its own must not be removed.
func decodeHold(name string, data []byte) (hold, error) {
	var h hold
	err := json.Unmarshal(data, &h)
	switch {
	case err == nil && h.Version > holdVersion:
		return hold{}, hint.Wrap(&manifest.VersionError{What: "hold", Got: h.Version, Max: holdVersion}, "install a newer shardseed")
	case err == nil && h.Version < 1:
		err = fmt.Errorf("version %d", h.Version)
	case err == nil && h.State != holdPinned && h.State != holdOpen && h.State != holdRemoving:
		err = fmt.Errorf("state %q", h.State)
	}
	if err != nil {
		return hold{}, &cas.CorruptError{Name: "values/" + name, Reason: err.Error()}
	}
	return h, nil
}

// readHold returns the hold of a backup and its generation, which also comes
// with an error about what the hold says.
func readHold(ctx context.Context, repo *cas.Repository, key cas.Key) (hold, uint64, error) {
	data, gen, err := repo.Value(ctx, holdName(key))
	if errors.Is(err, cas.ErrNotFound) {
		return hold{State: holdOpen}, 0, nil
	}
	if err != nil {
		return hold{}, gen, err
	}
	h, err := decodeHold(holdName(key), data)
	return h, gen, err
}

// setHold makes a state the one that follows generation gen. It returns
// cas.ErrExists if somebody else was first.
func setHold(ctx context.Context, repo *cas.Repository, key cas.Key, gen uint64, state holdState, note Note) error {
	note.Reason = strings.Join(strings.Fields(strings.ToValidUTF8(note.Reason, "?")), " ")
	data, err := json.Marshal(hold{Version: holdVersion, State: state, Note: note})
	if err != nil {
		return err
	}
	return repo.SetValueAfter(ctx, holdName(key), gen, data)
}

// Pin keeps a backup from being removed until it is unpinned. When it returns
// nil, no removal that respects pins takes the backup any more, on whatever
// host it runs. Pinning a pinned backup changes the note. It returns
// cas.ErrNotFound if there is no such backup.
func Pin(ctx context.Context, repo *cas.Repository, key cas.Key, note Note) error {
	for {
		if err := checkListed(ctx, repo, key); err != nil {
			return fmt.Errorf("pin %s: %w", key, err)
		}
		h, gen, err := readHold(ctx, repo, key)
		if err != nil && !errors.Is(err, cas.ErrCorrupt) {
			return fmt.Errorf("pin %s: %w", key, err)
		}
		if h.State == holdRemoving {
			return hint.Wrap(fmt.Errorf("pin %s: it is being removed by %s since %s", key, h.Host, h.Time.UTC().Format(time.DateTime)),
				"pin another backup; if nothing runs there any more, the removal was interrupted: \"shardseed rm\" ends it")
		}
		err = setHold(ctx, repo, key, gen, holdPinned, note)
		if errors.Is(err, cas.ErrExists) {
			continue
		}
		if err == nil { // programs that know no holds may have removed it
			err = checkListed(ctx, repo, key)
		}
		if err != nil {
			return fmt.Errorf("pin %s: %w", key, err)
		}
		return nil
	}
}

// checkListed returns cas.ErrNotFound for what is no backup or was removed. A
// damaged one is listed.
func checkListed(ctx context.Context, repo *cas.Repository, key cas.Key) error {
	_, err := repo.Record(ctx, key)
	switch {
	case errors.Is(err, cas.ErrRevoked):
		return cas.ErrNotFound
	case errors.Is(err, cas.ErrCorrupt):
		return nil
	}
	return err
}

// Unpin lets a backup be removed again. It returns whether it was pinned, and
// cas.ErrNotFound if there is no such backup.
func Unpin(ctx context.Context, repo *cas.Repository, key cas.Key, note Note) (was bool, err error) {
	for {
		if err := checkListed(ctx, repo, key); err != nil {
			return false, fmt.Errorf("unpin %s: %w", key, err)
		}
		h, gen, err := readHold(ctx, repo, key)
		if err != nil && !errors.Is(err, cas.ErrCorrupt) {
			return false, fmt.Errorf("unpin %s: %w", key, err)
		}
		if err == nil && h.State != holdPinned {
			return false, nil
		}
		if err := setHold(ctx, repo, key, gen, holdOpen, note); !errors.Is(err, cas.ErrExists) {
			return err == nil, err
		}
	}
}
