package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
)

// verdict is what the last check or repair has found of a backup. It is written
// when that changes; most backups have none, and are whole.
type verdict struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"` // UTC, whole seconds: for people
	Damaged bool      `json:"damaged"`
}

const verdictVersion = 1

func verdictsOf(shard string) string { return "checks/" + shard }
func verdictName(key cas.Key) string { return "checks/" + string(key) }

// isNewer tells that a newer program has written what cannot be read.
func isNewer(err error) bool {
	var object *cas.VersionError
	var content *manifest.VersionError
	return errors.As(err, &object) || errors.As(err, &content)
}

// readVerdicts returns the verdicts of a shard's backups, by key. Problems are those
// that cannot be read.
func readVerdicts(ctx context.Context, repo *cas.Repository, shard string) (found map[cas.Key]verdict, problems map[cas.Key]error, err error) {
	names, err := repo.ValueNames(ctx, verdictsOf(shard))
	if err != nil {
		return nil, nil, err
	}
	found, problems = map[cas.Key]verdict{}, map[cas.Key]error{}
	for _, name := range names {
		key := cas.Key(shard + "/" + name)
		v, err := readVerdict(ctx, repo, key)
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case errors.Is(err, cas.ErrNotFound): // somebody has not come to write it
		case err != nil:
			problems[key] = err
		default:
			found[key] = v
		}
	}
	return found, problems, nil
}

func readVerdict(ctx context.Context, repo *cas.Repository, key cas.Key) (verdict, error) {
	data, _, err := repo.Value(ctx, verdictName(key))
	if err != nil {
		return verdict{}, err
	}
	return decodeVerdict(key, data)
}

func decodeVerdict(key cas.Key, data []byte) (verdict, error) {
	var v verdict
	err := json.Unmarshal(data, &v)
	switch {
	case err == nil && v.Version > verdictVersion:
		return verdict{}, &manifest.VersionError{What: "verdict of a check", Got: v.Version, Max: verdictVersion}
	case err == nil && v.Version < 1:
		err = fmt.Errorf("version %d", v.Version)
	}
	if err != nil {
		return verdict{}, &cas.CorruptError{Name: "values/" + verdictName(key), Reason: err.Error()}
	}
	return v, nil
}

// noteVerdicts writes down which backups are damaged, and which are not any more. It
// can wait: the next check does the same.
func (r *run) noteVerdicts(ctx context.Context, damaged map[cas.Key]bool) {
	if r.Mute {
		return
	}
	known, problems := map[cas.Key]verdict{}, map[cas.Key]error{}
	shard := ""
	for _, b := range r.backups {
		if b.Err != nil && !errors.Is(b.Err, cas.ErrCorrupt) {
			continue
		}
		var err error
		if s := b.Key.Shard(); s != shard {
			shard = s
			known, problems, err = readVerdicts(ctx, r.Repo, shard)
		}
		problem := problems[b.Key]
		if isNewer(problem) || problem == nil && err == nil && known[b.Key].Damaged == damaged[b.Key] {
			continue
		}
		if !damaged[b.Key] && len(r.ledger.Problems) > 0 {
			continue // that its packs were damaged when they were read may not be known
		}
		if err == nil {
			err = r.setVerdict(ctx, b.Key, damaged[b.Key])
		}
		if err != nil {
			r.Progress.Warn(fmt.Sprintf("which backups are damaged is not remembered, \"shardseed list\" does not tell: %v", err))
			return
		}
	}
}

func (r *run) setVerdict(ctx context.Context, key cas.Key, damaged bool) error {
	data, err := json.Marshal(verdict{verdictVersion, r.Now().UTC().Truncate(time.Second), damaged})
	if err != nil {
		return err
	}
	_, err = r.Repo.SetValue(ctx, verdictName(key), data)
	return err
}
