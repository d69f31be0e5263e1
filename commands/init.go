package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"

	"github.com/shardseed/shardseed/cas"
	"github.com/shardseed/shardseed/cas/local"
	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/ui"
)

// The limits of --chunk-size, in bytes. A page of InnoDB has up to 64 KiB and
// must not be cut.
const (
	minChunkSize = 64 << 10
	maxChunkSize = 16 << 20
)

func (r *run) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "makes an empty repository",
		Description: `Makes an empty repository in the folder --root, which is created if need be.

Example:
  shardseed init --root /backups`,
		Flags: []cli.Flag{
			altsrc.NewStringFlag(&cli.StringFlag{
				Name: "chunk-size", Value: "64KiB",
				Usage: "`SIZE` of the pieces that files are cut into: a power of two from 64KiB to 16MiB",
			}),
		},
		Action: r.initRepository,
	}
}

func (r *run) initRepository(c *cli.Context) error {
	var k checks
	k.positionals(c)
	root := checkGlobals(c, &k).repository(&k)
	config := cas.Config{ChunkSize: parseChunkSize(&k, c.String("chunk-size"))}
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := createRepository(c.Context, root, config, r.opts)
	if err != nil {
		return err
	}
	r.out.Text("made repository %s in %s, chunks of %s", repo.UUID(), root, ui.Bytes(int64(repo.ChunkSize())))
	r.out.Object(struct {
		Type      string `json:"type"`
		Root      string `json:"root"`
		UUID      string `json:"uuid"`
		ChunkSize int    `json:"chunk_size_bytes"`
	}{"repository", root, repo.UUID().String(), repo.ChunkSize()})
	return nil
}

func createRepository(ctx context.Context, root string, config cas.Config, opts Options) (*cas.Repository, error) {
	backend, err := local.Create(root)
	if err != nil {
		return nil, fmt.Errorf("root %s: %w", root, err)
	}
	repo, err := cas.Create(ctx, backend, config, opts.Random, opts.Now)
	if errors.Is(err, cas.ErrExists) {
		return nil, hint.Wrap(fmt.Errorf("root %s: %w", root, err), "use it as it is, or give an empty --root")
	}
	if err != nil {
		return nil, fmt.Errorf("root %s: %w", root, err)
	}
	return repo, nil
}

// parseChunkSize reads the value of --chunk-size, in bytes.
func parseChunkSize(k *checks, text string) int {
	n, err := humanize.ParseBytes(text)
	if err != nil || n < minChunkSize || n > maxChunkSize || n&(n-1) != 0 {
		k.addf("flag --chunk-size: %q is not a power of two from 64KiB to 16MiB", text)
		return 0
	}
	return int(n)
}
