package innodb

import "sort"

// MaxBad is how many bad pages a Report names; BadCount counts all of them.
const MaxBad = 100

// Report is what checks found. The zero value is an empty report. A Report is
// not safe for concurrent use: give each goroutine its own and merge them.
type Report struct {
	Pages       int64     // all pages seen = Zero + Checked + Unchecked + Doublewrite + BadCount
	Zero        int64     // all-zero pages, which are valid
	Checked     int64     // pages whose content was verified
	Unchecked   int64     // pages that cannot be verified: encrypted by MySQL, an unknown compression, or without checksums
	Doublewrite int64     // pages of the doublewrite area, which are never verified
	Encrypted   int64     // pages among Checked and Unchecked that only a key can read
	BadCount    int64     // damaged pages
	Bad         []BadPage // the first MaxBad of them; sorted by number after Merge
	MaxLSN      uint64    // highest LSN of the good pages outside the doublewrite area
}

// BadPage names one damaged page.
type BadPage struct {
	No  uint32 // page number in the tablespace, not in the file
	Why string // without the page number, for people
}

// Merge adds what other found to r. Of the bad pages those with the smallest
// numbers stay named. It keeps no reference to other.
func (r *Report) Merge(other Report) {
	r.Pages += other.Pages
	r.Zero += other.Zero
	r.Checked += other.Checked
	r.Unchecked += other.Unchecked
	r.Doublewrite += other.Doublewrite
	r.Encrypted += other.Encrypted
	r.BadCount += other.BadCount
	r.MaxLSN = max(r.MaxLSN, other.MaxLSN)
	r.Bad = append(r.Bad, other.Bad...)
	sort.SliceStable(r.Bad, func(i, j int) bool { return r.Bad[i].No < r.Bad[j].No })
	if len(r.Bad) > MaxBad {
		r.Bad = r.Bad[:MaxBad:MaxBad]
	}
}

// bad counts one damaged page and names it while there is room.
func (r *Report) bad(no uint32, why string) {
	r.BadCount++
	if len(r.Bad) < MaxBad {
		r.Bad = append(r.Bad, BadPage{No: no, Why: why})
	}
}
