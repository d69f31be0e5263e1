package innodb

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

// inflater has what decompressing one page needs, kept for the next.
type inflater struct {
	page []byte        // the page as it was before compression
	src  bytes.Reader  // over the compressed bytes
	zlib io.ReadCloser // nil until needed; resettable
}

// errAlgorithm says that a page is compressed in a way that is not read here.
var errAlgorithm = errors.New("compression algorithm is not known")

// Numbers of algorithms on page compressed pages; the servers share these two.
const (
	algorithmZlib = 1
	algorithmLZ4  = 2
)

// unpacked verifies a page compressed page by decompressing it with unpack,
// which restores it in in.page and returns its own findings, "" if none.
func (c *Checker) unpacked(p []byte, unpack func(in *inflater, p []byte) (string, error)) verdict {
	in, ok := c.inflaters.Get().(*inflater)
	if !ok {
		panic("innodb: internal error: foreign value in the pool")
	}
	defer c.inflaters.Put(in)
	if len(in.page) != len(p) {
		in.page = make([]byte, len(p))
	}
	why, err := unpack(in, p)
	switch {
	case errors.Is(err, errAlgorithm):
		return verdict{opaque: true}
	case err != nil:
		return verdict{why: fmt.Sprintf("decompress page: %v", err)}
	}
	return verdict{why: why}
}

// unpackMySQL restores a page of type 14: the header stays, with the original
// type, and the rest is compressed. The ordinary checksums then hold.
// Source: Compression in os0file.h.
func unpackMySQL(in *inflater, p []byte) (string, error) {
	const (
		offAlgorithm = 27
		offOrigType  = 28
		offOrigSize  = 30
		offSize      = 32
	)
	size, plain := int(be16(p[offSize:])), int(be16(p[offOrigSize:]))
	if size > len(p)-offBody || plain != len(p)-offBody {
		return "", fmt.Errorf("%d bytes for %d do not fit into the page", size, plain)
	}
	if err := in.inflate(in.page[offBody:], p[offBody:offBody+size], uint64(p[offAlgorithm])); err != nil {
		return "", err
	}
	copy(in.page[:offBody], p)
	copy(in.page[offType:], p[offOrigType:offOrigType+2])
	if why := classicWhy(in.page); why != "" {
		return why, nil
	}
	return lsnWhy(in.page, be32(in.page[len(p)-4:])), nil
}

// unpackMaria restores a page of type 34354. Its checksums are not stored:
// what can be verified is that it decompresses to a page with the same number,
// and that its LSN is whole. Source: fil0pagecompress.cc.
func unpackMaria(in *inflater, p []byte) (string, error) {
	const offAlgorithm, offSize, offData = 26, 38, 40
	size := int(be16(p[offSize:]))
	if size > len(p)-offData {
		return "", fmt.Errorf("%d bytes do not fit into the page", size)
	}
	if err := in.inflate(in.page, p[offData:offData+size], be64(p[offAlgorithm:])); err != nil {
		return "", err
	}
	if inner, outer := be32(in.page[offPageNo:]), be32(p[offPageNo:]); inner != outer {
		return fmt.Sprintf("page says that it is page %d, compressed that it is page %d", outer, inner), nil
	}
	return lsnWhy(in.page, be32(in.page[len(p)-4:])), nil
}

// inflate fills dst exactly from src.
func (in *inflater) inflate(dst, src []byte, algorithm uint64) error {
	switch algorithm {
	case algorithmZlib:
		return in.inflateZlib(dst, src)
	case algorithmLZ4:
		return inflateLZ4(dst, src)
	default:
		return errAlgorithm
	}
}

func (in *inflater) inflateZlib(dst, src []byte) error {
	in.src.Reset(src)
	if err := in.resetZlib(); err != nil {
		return err
	}
	if _, err := io.ReadFull(in.zlib, dst); err != nil {
		return err
	}
	var more [1]byte // reading on to the end verifies zlib's checksum
	switch n, err := in.zlib.Read(more[:]); {
	case n > 0:
		return fmt.Errorf("more than %d bytes", len(dst))
	case err != io.EOF:
		return err
	}
	return nil
}

func (in *inflater) resetZlib() (err error) {
	if r, ok := in.zlib.(zlib.Resetter); ok {
		return r.Reset(&in.src, nil)
	}
	in.zlib, err = zlib.NewReader(&in.src)
	return err
}
