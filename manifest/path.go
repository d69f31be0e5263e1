package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"
)

// maxPath bounds a path, a symbolic link's target and a root's path, in bytes.
// It is Linux's PATH_MAX.
const maxPath = 4096

// Path is a slash path as the file system gave it: any bytes but NUL. In JSON
// it is a string, or {"base64": …} where the bytes are not UTF-8, which a JSON
// string cannot hold.
type Path string

// base64Path is the JSON form of a path that is not UTF-8.
type base64Path struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON returns the path's JSON form.
func (p Path) MarshalJSON() ([]byte, error) {
	var value any = string(p)
	if !utf8.ValidString(string(p)) {
		value = base64Path{Base64: []byte(p)}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(value)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// UnmarshalJSON reads both forms.
func (p *Path) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var b base64Path
		if err := json.Unmarshal(data, &b); err != nil {
			return err
		}
		*p = Path(b.Base64)
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*p = Path(s)
	return nil
}

// checkRelative refuses a path that could lead out of the folder it is
// relative to, or that can be written in another way.
func checkRelative(p Path) error {
	s := string(p)
	switch {
	case s == "":
		return fmt.Errorf("path is empty")
	case len(s) > maxPath:
		return fmt.Errorf("path of %d bytes is longer than %d", len(s), maxPath)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("path %q contains a NUL", s)
	case path.IsAbs(s):
		return fmt.Errorf("path %q is absolute", s)
	case s == ".." || strings.HasPrefix(s, "../") || path.Clean(s) != s || s == ".":
		return fmt.Errorf("path %q is not a clean path within its root", s)
	}
	return nil
}

// checkAbsolute refuses a root's path that is not absolute and clean.
func checkAbsolute(p Path) error {
	s := string(p)
	switch {
	case len(s) > maxPath:
		return fmt.Errorf("path of %d bytes is longer than %d", len(s), maxPath)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("path %q contains a NUL", s)
	case !path.IsAbs(s) || path.Clean(s) != s:
		return fmt.Errorf("path %q is not absolute and clean", s)
	}
	return nil
}
