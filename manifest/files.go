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
	if len(files) > MaxFiles {
		return fmt.Errorf("write file list: %d entries, at most %d are allowed", len(files), MaxFiles)
	}
	var last *File
	for i := range files {
		if err := files[i].checkAfter(last); err != nil {
			return fmt.Errorf("write file list: %w", err)
		}
		last = &files[i]
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

// MaxFiles is the most entries that a list of files may have.
const MaxFiles = 8 << 20

// ReadFiles reads a list that [WriteFiles] wrote, as [EachFile] does, into memory:
// about 300 bytes for each entry.
func ReadFiles(r io.Reader, count int64) ([]File, error) {
	var files []File // grows with what is read: count is not believed
	err := EachFile(r, count, func(f *File) error {
		files = append(files, *f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return files, nil
}

// EachFile reads a list that [WriteFiles] wrote, to its end, and calls fn for each
// entry, which fn may keep. count is how many entries the manifest says there are;
// another number is an error, and so are more than [MaxFiles], a line above 1 MiB,
// an invalid entry, an entry out of order and an entry that comes twice. Errors of
// fn are returned as they are. A list of a newer version gives a [*VersionError].
func EachFile(r io.Reader, count int64, fn func(f *File) error) error {
	if count > MaxFiles {
		return fmt.Errorf("read file list: %d entries, at most %d are allowed", count, MaxFiles)
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	lines.Split(wholeLines)
	if err := readHeader(lines, count); err != nil {
		return fmt.Errorf("read file list: %w", err)
	}
	var last *File
	n := int64(0)
	for ; lines.Scan(); n++ {
		if n == count {
			return fmt.Errorf("read file list: more than the %d entries announced", count)
		}
		f, err := readEntry(lines.Bytes(), last)
		if err != nil {
			return fmt.Errorf("read file list: entry %d: %w", n+1, err)
		}
		if err := fn(f); err != nil {
			return err
		}
		last = f
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read file list: entry %d: %w", n+1, err)
	}
	if n != count {
		return fmt.Errorf("read file list: %d entries, want %d", n, count)
	}
	return nil
}

// readEntry reads the line behind that of last, which is nil for the first.
func readEntry(line []byte, last *File) (*File, error) {
	f := new(File)
	if err := json.Unmarshal(line, f); err != nil {
		return nil, err
	}
	if err := f.checkAfter(last); err != nil {
		return nil, err
	}
	f.Kind = f.Kind.shared()
	if last != nil && last.Root == f.Root {
		f.Root = last.Root // one string in memory for all
	}
	return f, nil
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

// checkAfter validates the entry by itself and against the one before it, nil if
// it is the first.
func (f *File) checkAfter(last *File) error {
	if err := f.Validate(); err != nil {
		return err
	}
	if last == nil {
		return nil
	}
	switch c := last.Compare(f); {
	case c == 0:
		return fmt.Errorf("file %q in root %q is listed twice", f.Path, f.Root)
	case c > 0:
		return fmt.Errorf("file %q in root %q is out of order, after %q in %q", f.Path, f.Root, last.Path, last.Root)
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
