package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// treeSize returns the bytes of all files below the folder. A folder that is
// not there has none.
func treeSize(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return total, err
}

// emptyDir makes the folder anew.
func emptyDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}

// strip removes what shardseed leaves out of a backup, since the server makes
// it anew, so that all tools work on the same files.
func strip(datadir string) error {
	var errs []error
	for _, pattern := range []string{"auto.cnf", "*.pem", "*.dblwr", "ibtmp1", "#innodb_temp/*", "#innodb_redo/*_tmp"} {
		paths, err := filepath.Glob(filepath.Join(datadir, pattern))
		errs = append(errs, err)
		for _, path := range paths {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// sameTree returns an error that names the first difference in names or bytes
// of the files below two folders.
func sameTree(want, got string) error {
	seen := map[string]bool{}
	err := filepath.WalkDir(want, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		seen[name] = true
		if entry.IsDir() {
			return nil
		}
		return sameFile(path, filepath.Join(got, name))
	})
	if err != nil {
		return err
	}
	return filepath.WalkDir(got, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(got, path)
		if err == nil && !seen[name] {
			err = fmt.Errorf("%s is new", path)
		}
		return err
	})
}

func sameFile(want, got string) error {
	a, err := os.Open(want)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // only read
	b, err := os.Open(got)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // only read
	const size = 256 << 10
	left, right := make([]byte, size), make([]byte, size)
	for offset := int64(0); ; offset += size {
		n, errA := io.ReadFull(a, left)
		m, errB := io.ReadFull(b, right)
		if !bytes.Equal(left[:n], right[:m]) {
			return fmt.Errorf("%s differs from %s after byte %d", got, want, offset)
		}
		if errA != nil || errB != nil {
			return errors.Join(notEnd(errA), notEnd(errB))
		}
	}
}

// notEnd drops the errors by which a reader says that it is at its end.
func notEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
