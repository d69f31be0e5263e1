package cas

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

// directoryReader reads the directories of many packs, each into the memory of one
// before: to make it anew for each would be most of what a collection or a check
// takes. Ends of packs are read by many goroutines, for a store may be far away; they
// are decoded by no more than there are processors.
type directoryReader struct {
	repo  *Repository
	check func(BlobReader, *Pack) error            // of the open pack; may be nil
	use   func(id ID, pack *Pack, err error) error // see InspectAll

	tables chan *tableBuffers // those not in use
	mu     sync.Mutex         // held while use is called
}

func (d *directoryReader) readAll(ctx context.Context, ids []ID, workers int) error {
	d.tables = make(chan *tableBuffers, runtime.GOMAXPROCS(0))
	for range cap(d.tables) {
		d.tables <- &tableBuffers{}
	}
	queue := make(chan ID)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(queue)
		for _, id := range ids {
			select {
			case queue <- id:
			case <-running.Done():
				return running.Err()
			}
		}
		return nil
	})
	for range min(workers, len(ids)) {
		group.Go(func() error {
			var ends endBuffers
			for id := range queue {
				if err := d.read(running, id, &ends); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// read reads the directory of one pack and passes it on.
func (d *directoryReader) read(ctx context.Context, id ID, ends *endBuffers) error {
	var table *tableBuffers
	pack, err := d.repo.openPack(ctx, id, func(blob BlobReader) (*Pack, error) {
		t, footer, err := ends.read(blob, id)
		if err != nil {
			return nil, err
		}
		var header error
		if d.check != nil {
			header = d.check(blob, &Pack{ID: id, Kind: t.kind})
		}
		table = <-d.tables
		pack, err := table.parse(blob, id, t, footer, d.repo.decoders)
		if err != nil {
			return nil, err
		}
		return pack, header
	})
	if table != nil {
		defer func() { d.tables <- table }()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if ctx.Err() != nil { // also after an error of use
		return ctx.Err()
	}
	return d.use(id, pack, err)
}
