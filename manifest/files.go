package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// FilesVersion is the version of the file list that this program writes, and
// the newest that it reads.
const FilesVersion = 1

const (
	filesFormat = "shardseed-files" // first field of the stream's first line
	maxLine     = 1 << 20           // bytes of one line, its end included
)

// filesHeader is the first line of a file list.
type filesHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Count   int64  `json:"count"` // entries that follow
}

// WriteFiles writes the list of files: a header, then one line of JSON for
// each, sorted by [File.Compare]. The same files always give the same bytes.
// files is sorted in place. It is an error if an entry is invalid or two have
// the same root and path; part of the list may then have been written.
func WriteFiles(w io.Writer, files []File) error {
	slices.SortFunc(files, func(a, b File) int { return a.Compare(&b) })
	buffered := bufio.NewWriter(w)
	enc := json.NewEncoder(buffered)
	enc.SetEscapeHTML(false)
	header := filesHeader{Format: filesFormat, Version: FilesVersion, Count: int64(len(files))}
	if err := enc.Encode(header); err != nil {
		return fmt.Errorf("write file list: %w", err)
	}
	for i := range files {
		if err := checkNext(files, i); err != nil {
			return fmt.Errorf("write file list: %w", err)
		}
		f := files[i]
		f.ModTime = storableTime(f.ModTime)
		if err := enc.Encode(&f); err != nil {
			return fmt.Errorf("write file list: %q: %w", f.Path, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write file list: %w", err)
	}
	return nil
}

// ReadFiles reads a list that [WriteFiles] wrote, to its end. count is how
// many entries the manifest says there are; another number is an error, and
// so are a line above 1 MiB, an invalid entry, an entry out of order and an
// entry that comes twice. A list of a newer version gives a [*VersionError].
func ReadFiles(r io.Reader, count int64) ([]File, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	lines.Split(wholeLines)
	if err := readHeader(lines, count); err != nil {
		return nil, fmt.Errorf("read file list: %w", err)
	}
	var files []File // grows with what is read: count is not believed
	for lines.Scan() {
		if int64(len(files)) == count {
			return nil, fmt.Errorf("read file list: more than the %d entries announced", count)
		}
		var f File
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("read file list: entry %d: %w", len(files)+1, err)
		}
		files = append(files, f)
		if err := checkNext(files, len(files)-1); err != nil {
			return nil, fmt.Errorf("read file list: entry %d: %w", len(files), err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read file list: entry %d: %w", len(files)+1, err)
	}
	if int64(len(files)) != count {
		return nil, fmt.Errorf("read file list: %d entries, want %d", len(files), count)
	}
	return files, nil
}

// storableTime returns t in UTC, or the zero time where RFC 3339 has no form
// for it: a file's odd time is no reason to lose its backup.
func storableTime(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}

// readHeader reads and checks the first line.
func readHeader(lines *bufio.Scanner, count int64) error {
	if !lines.Scan() {
		return errors.Join(errors.New("no header"), lines.Err())
	}
	var header filesHeader
	if err := json.Unmarshal(lines.Bytes(), &header); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if header.Format != filesFormat {
		return fmt.Errorf("header: format is %q, want %q", header.Format, filesFormat)
	}
	if err := checkVersion("file list", header.Version, FilesVersion); err != nil {
		return err
	}
	if header.Count != count {
		return fmt.Errorf("header announces %d entries, the manifest %d", header.Count, count)
	}
	return nil
}

// checkNext validates files[i] by itself and against the entry before it.
func checkNext(files []File, i int) error {
	f := &files[i]
	if err := f.Validate(); err != nil {
		return err
	}
	if i == 0 {
		return nil
	}
	switch c := files[i-1].Compare(f); {
	case c == 0:
		return fmt.Errorf("file %q in root %q is listed twice", f.Path, f.Root)
	case c > 0:
		return fmt.Errorf("file %q in root %q is out of order, after %q in %q", f.Path, f.Root, files[i-1].Path, files[i-1].Root)
	}
	return nil
}

// wholeLines splits lines at line feeds. A last line without one has been cut
// off: it is an error, where bufio.ScanLines would return it.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}
