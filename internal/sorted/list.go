package sorted

// List is a slice that is never copied when it grows. The zero value is empty.
type List[E any] struct {
	pages [][]E // all but the last are full
	count int
}

const listPage = 4 << 10 // entries

// Len returns the number of elements.
func (l *List[E]) Len() int { return l.count }

// Add adds an element at the end.
func (l *List[E]) Add(e E) {
	if l.count == len(l.pages)*listPage {
		l.pages = append(l.pages, make([]E, 0, listPage))
	}
	last := &l.pages[len(l.pages)-1]
	*last = append(*last, e)
	l.count++
}

// At returns the element with that number, which is less than Len. It stays where
// it is.
func (l *List[E]) At(n uint32) *E { return &l.pages[n/listPage][n%listPage] }
