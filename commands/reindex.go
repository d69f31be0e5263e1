package commands

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/index"
	"github.com/shardseed/shardseed/internal/ui"
)

func (r *run) reindexCommand() *cli.Command {
	return &cli.Command{
		Name:  "reindex",
		Usage: "makes this host's index of the repository anew",
		Description: `Drops this host's index of the repository and makes it anew from the packs. It
is never needed for correctness.

Example:
  shardseed reindex --root /backups`,
		Action: frugal(r.reindex),
	}
}

func (r *run) reindex(c *cli.Context) (err error) {
	var k checks
	k.positionals(c)
	g := checkGlobals(c, &k)
	root, cache := g.repository(&k), g.cache(&k)
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	chunks, err := index.Rebuild(c.Context, cache, repo)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, chunks.Close()) }()
	stats := chunks.Stats()
	r.out.Text("index of %s in %s: %d chunks in %d packs, %s", root, cache, stats.Chunks, stats.Packs, ui.Bytes(stats.FileBytes))
	r.out.Object(struct {
		Type   string `json:"type"`
		Folder string `json:"folder"`
		Packs  int    `json:"packs"`
		Chunks int64  `json:"chunks"`
		Size   int64  `json:"size_bytes"`
	}{"index", cache, stats.Packs, stats.Chunks, stats.FileBytes})
	return errors.Join(chunks.Problems()...) // packs that were left out
}
