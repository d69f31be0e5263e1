package innodb

import "errors"

var errLZ4 = errors.New("lz4 block is damaged")

// inflateLZ4 fills dst exactly from one LZ4 block.
// Source: the LZ4 block format description, lz4_Block_format.md.
func inflateLZ4(dst, src []byte) error {
	const minMatch = 4
	n := 0 // bytes of dst that are done
	for len(src) > 0 {
		token := src[0]
		literals, rest, ok := lz4Length(int(token>>4), src[1:])
		if !ok || literals > len(rest) || literals > len(dst)-n {
			return errLZ4
		}
		n += copy(dst[n:], rest[:literals])
		src = rest[literals:]
		if len(src) == 0 {
			break // the last sequence has no match
		}
		if len(src) < 2 {
			return errLZ4
		}
		distance := int(src[0]) | int(src[1])<<8
		match, rest, ok := lz4Length(int(token&0xf), src[2:])
		match += minMatch
		if !ok || distance == 0 || distance > n || match > len(dst)-n {
			return errLZ4
		}
		for end := n + match; n < end; n++ { // byte by byte: source and target may overlap
			dst[n] = dst[n-distance]
		}
		src = rest
	}
	if n != len(dst) {
		return errLZ4
	}
	return nil
}

// lz4Length reads the bytes that continue a length of 15, and returns what
// follows them. It cannot overflow: src has at most a page of bytes.
func lz4Length(length int, src []byte) (int, []byte, bool) {
	if length < 15 {
		return length, src, true
	}
	for i, b := range src {
		length += int(b)
		if b < 255 {
			return length, src[i+1:], true
		}
	}
	return 0, nil, false
}
