package mysqlbackup

import (
	"context"
	"errors"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/walk"
)

// ListFiles returns the list of files of a backup, as a restore reads it.
func ListFiles(ctx context.Context, repo *cas.Repository, m *manifest.Manifest) ([]manifest.File, error) {
	chunks, err := index.OfBackup(ctx, "", repo, m.Packs)
	if err != nil {
		return nil, err
	}
	reader := repo.NewReader(chunks)
	files, err := walk.Files(ctx, reader, m.Files)
	return files, errors.Join(err, reader.Close(), chunks.Close())
}
