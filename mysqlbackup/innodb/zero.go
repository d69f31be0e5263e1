package innodb

import "bytes"

// isZero reports whether all bytes are zero, at the speed of memory.
func isZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}
