package mysqlbackup

import (
	"context"
	"errors"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

// ReadManifest reads the record of one backup; see [walk.Manifest].
func ReadManifest(ctx context.Context, repo *cas.Repository, key cas.Key) (*manifest.Manifest, error) {
	return walk.Manifest(ctx, repo, key)
}

// ReadFiles reads the list of a backup's files. A pack or chunk that is
// missing is a cas.ErrNotFound: the repository is damaged.
func ReadFiles(ctx context.Context, repo *cas.Repository, m *manifest.Manifest) (_ []manifest.File, err error) {
	chunks, err := index.OfBackup(ctx, "", repo, m.Packs)
	if err != nil {
		return nil, err
	}
	reader := repo.NewReader(chunks)
	defer func() { err = errors.Join(err, reader.Close(), chunks.Close()) }()
	files, err := walk.Files(ctx, reader, m.Files)
	return files, damagedStore(err)
}
