package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/internal/ui"
	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
)

// showFiles tells every file of a backup, and the pages that failed their
// check.
func (r *run) showFiles(ctx context.Context, repo *cas.Repository, m *manifest.Manifest) error {
	files, err := mysqlbackup.ReadFiles(ctx, repo, m)
	if err != nil {
		err = fmt.Errorf("files of %s: %w", m.Key(), err)
		if errors.Is(err, cas.ErrNotFound) { // what a backup needs is never removed before it
			err = &codedError{err, exitDamaged}
		}
		return err
	}
	var rows [][]string
	for _, f := range files {
		r.out.Object(struct {
			Type string `json:"type"` // "file"
			manifest.File
		}{"file", f})
		rows = append(rows, []string{f.Root, fmt.Sprintf("%q", f.Path), string(f.Kind), ui.Bytes(f.Size), filePages(f.Pages)})
	}
	r.out.Text("")
	r.out.Table([]string{"FOLDER", "PATH", "KIND", "SIZE", "PAGES"}, rows)
	for _, f := range files {
		if f.Pages == nil {
			continue
		}
		for _, bad := range f.Pages.BadPages {
			r.out.Text("page %d of %s %q: %s", bad.Number, f.Root, f.Path, ui.Line(bad.Why))
		}
	}
	return nil
}

func filePages(pages *manifest.FilePages) string {
	if pages == nil {
		return "-"
	}
	return pageCounts(pages.Pages)
}
