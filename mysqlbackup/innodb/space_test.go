package innodb

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSpace(t *testing.T) {
	for _, tc := range []struct {
		name    string
		flags   uint32
		mariadb bool
		want    Space
	}{
		{"dynamic", 0x4021, false, Space{PageSize: 16384, LogicalSize: 16384}},
		{"redundant", 0x4000, false, Space{PageSize: 16384, LogicalSize: 16384}},
		{"general", 0x4800, false, Space{PageSize: 16384, LogicalSize: 16384}},
		{"undo", 0, false, Space{PageSize: 16384, LogicalSize: 16384}},
		{"data directory", 0x4421, false, Space{PageSize: 16384, LogicalSize: 16384}},
		{"encrypted", 0x6021, false, Space{PageSize: 16384, LogicalSize: 16384, Encrypted: true}},
		{"K1", 0x4023, false, Space{PageSize: 1024, LogicalSize: 16384, RowCompressed: true}},
		{"K4", 0x4027, false, Space{PageSize: 4096, LogicalSize: 16384, RowCompressed: true}},
		{"K8", 0x4029, false, Space{PageSize: 8192, LogicalSize: 16384, RowCompressed: true}},
		{"K16", 0x402b, false, Space{PageSize: 16384, LogicalSize: 16384, RowCompressed: true}},
		{"4K", 0x4021 | 3<<6, false, Space{PageSize: 4096, LogicalSize: 4096}},
		{"64K", 0x4021 | 7<<6, false, Space{PageSize: 65536, LogicalSize: 65536}},
		{"8K with K4", 0x4027 | 4<<6, false, Space{PageSize: 4096, LogicalSize: 8192, RowCompressed: true}},
		{"full_crc32", 0x15, true, Space{PageSize: 16384, LogicalSize: 16384, FullCRC32: true}},
		{"full_crc32 4K", 0x13, true, Space{PageSize: 4096, LogicalSize: 4096, FullCRC32: true}},
		{"full_crc32 64K", 0x17, true, Space{PageSize: 65536, LogicalSize: 65536, FullCRC32: true}},
		{"full_crc32 zlib", 0x35, true, Space{PageSize: 16384, LogicalSize: 16384, FullCRC32: true, PageCompressed: true}},
		{"classic", 0x21, true, Space{PageSize: 16384, LogicalSize: 16384}},
		{"classic page compressed", 0x10021, true, Space{PageSize: 16384, LogicalSize: 16384, PageCompressed: true}},
		{"classic K1", 0x23, true, Space{PageSize: 1024, LogicalSize: 16384, RowCompressed: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := tc.want
			want.ID, want.Flags, want.SizePages, want.MariaDB = testSpace, tc.flags, 4, tc.mariadb
			got, err := ParseSpace(pageZero(4096, tc.flags), tc.mariadb)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseSpaceRefuses(t *testing.T) {
	page := func(flags uint32, change func(p []byte)) []byte {
		p := pageZero(4096, flags)
		if change != nil {
			change(p)
		}
		return p
	}
	for _, tc := range []struct {
		name    string
		page    []byte
		mariadb bool
		want    string
	}{
		{"nothing", nil, false, "0 bytes"},
		{"short", make([]byte, HeaderSize-1), false, "57 bytes"},
		{"empty", make([]byte, 4096), false, "page 0 is empty"},
		{"other page", page(0, func(p []byte) { p[7] = 3 }), false, "it is page 3"},
		{"two spaces", page(0, func(p []byte) { p[37] = 3 }), false, "in tablespace 3 and in tablespace 77"},
		{"bit 15", page(1<<15, nil), false, "flags 0x8000"},
		{"bit 16 of MySQL", page(1<<16, nil), false, "flags 0x10000"},
		{"bit 17 of MariaDB", page(1<<17, nil), true, "flags 0x20000"},
		{"page size 1K", page(1<<6, nil), false, "flags 0x40"},
		{"page size 128K", page(8<<6, nil), false, "flags 0x200"},
		{"zip 32K", page(6<<1, nil), false, "flags 0xc"},
		{"zip larger than the page", page(3<<6|5<<1, nil), false, "flags 0xca"},
		{"full_crc32 with size 0", page(0x10, nil), true, "flags 0x10"},
		{"full_crc32 with size 128K", page(0x18, nil), true, "flags 0x18"},
		{"full_crc32 with more bits", page(0x115, nil), true, "flags 0x115"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseSpace(tc.page, tc.mariadb)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if got != (Space{}) {
				t.Errorf("got %+v beside the error", got)
			}
		})
	}
}

func TestFlushLSN(t *testing.T) {
	p := pageZero(4096, 0)
	put64(p[26:], 12345678901)
	if got, err := FlushLSN(p); err != nil || got != 12345678901 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := FlushLSN(p[:HeaderSize-1]); err == nil {
		t.Error("a short page was accepted")
	}
}

func FuzzParseSpace(f *testing.F) {
	for _, flags := range []uint32{0, 0x4021, 0x4023, 0x15, 0x35, 0x10021, 0xffffffff} {
		f.Add(pageZero(4096, flags)[:HeaderSize], true)
		f.Add(pageZero(4096, flags)[:HeaderSize], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, mariadb bool) {
		s, err := ParseSpace(b, mariadb)
		if err != nil {
			return
		}
		if s.PageSize < 1024 || s.PageSize > s.LogicalSize || s.LogicalSize > 65536 || s.PageSize&(s.PageSize-1) != 0 {
			t.Errorf("sizes %d and %d", s.PageSize, s.LogicalSize)
		}
	})
}
