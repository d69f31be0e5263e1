package mysqlbackup

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

// Prune deletes what no backup in the repository needs; see [cas.Repository.Prune].
// Of opts, Walk is set here.
func Prune(ctx context.Context, repo *cas.Repository, opts cas.PruneOptions) (*cas.PruneResult, error) {
	opts.Walk = walkRecord
	return repo.Prune(ctx, opts)
}

// walkRecord visits the chunks that the backup with this record needs.
func walkRecord(ctx context.Context, key cas.Key, record []byte, reader *cas.Reader, visit func(cas.ID, bool) (bool, error)) error {
	m, err := manifest.Decode(record)
	if err == nil && m.Key() != key { // what the right one needs is not known
		err = fmt.Errorf("it is the record of %s", m.Key())
	}
	var newer *manifest.VersionError
	if err != nil && !errors.As(err, &newer) {
		err = &cas.CorruptError{Name: "manifests/" + string(key), Reason: err.Error()}
	}
	if err != nil {
		return err
	}
	return walk.Backup(ctx, reader, m, needs(visit))
}

// needs is a [walk.Visitor] that stops at the first thing that cannot be read.
type needs func(id cas.ID, node bool) (below bool, err error)

// Visit implements walk.Visitor.
func (n needs) Visit(p walk.Piece) (bool, error) { return n(p.ID, p.Kind == walk.Node) }

// Lost implements walk.Visitor.
func (n needs) Lost(_ walk.Piece, err error) error { return err }
