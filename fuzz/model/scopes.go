package model

// The chunks of the scopes.
const (
	a = iota
	b
	c
)

func needs(chunks ...int) []Need {
	var needs []Need
	for _, chunk := range chunks {
		needs = append(needs, Need{chunk, standsAlone})
	}
	return needs
}

// Short returns scopes that are explored in seconds.
func Short() []Scope {
	return []Scope{
		{
			Name: "writers", About: "two writers of a chunk that a forgetable backup holds; two collectors",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}, {Needs: needs(a)}}, Collectors: 2, Generations: 1,
		},
		{
			Name: "generations", About: "a writer, two collectors, two generations, a chunk stored twice",
			Packs:   []Copy{Full(a), Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}}, Collectors: 2, Generations: 2,
		},
		{
			Name: "deltas", About: "a chain that a forgetable backup holds, two writers that add to it",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: []Need{{c, b}}}, {Needs: []Need{{b, a}}}}, Collectors: 1, Generations: 1, AllLists: true,
		},
		{
			Name: "circles", About: "two chunks, each in full and as a delta of the other",
			Packs:   []Copy{Full(a), Delta(b, a, 1), Full(b), Delta(a, b, 1)},
			Backups: []Backup{{[]int{a, b}, false}},
			Writers: []Writer{{Needs: needs(b)}}, Collectors: 2, Generations: 1, AllLists: true,
		},
		{
			Name: "repack", About: "a chain is collapsed while a writer adds to it",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: []Need{{b, a}}, Repack: true}, {Needs: []Need{{c, b}}}}, Collectors: 1, Generations: 2,
		},
		{
			Name: "damage", About: "one of two copies is found damaged",
			Packs:   []Copy{Full(a), Full(a)},
			Backups: []Backup{{[]int{a}, false}},
			Writers: []Writer{{Needs: needs(a)}}, Collectors: 2, Generations: 1, Damage: true,
		},
		{
			Name: "delay", About: "names are seen late: a writer, two collectors",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}}, Collectors: 2, Generations: 1, Delay: true,
		},
		{
			Name: "late deltas", About: "names are seen late: a writer of a delta",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: []Need{{b, a}}}}, Collectors: 1, Generations: 1, Delay: true,
		},
		{
			Name: "reader", About: "a forgetable backup is restored while it is repacked",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: needs(b), Repack: true}}, Collectors: 1, Generations: 1, Reader: true,
		},
		{
			Name: "late reader", About: "the same, and names are seen late",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a), Repack: true}}, Collectors: 1, Generations: 1, Reader: true, Delay: true,
		},
		{
			Name: "omission", About: "a listing omits a session",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}}, Collectors: 1, Generations: 1, Omission: true,
		},
		{
			Name: "vanish", About: "listings lose a backup that was known",
			Packs:   []Copy{Full(a), Full(b)},
			Backups: []Backup{{[]int{a}, false}, {[]int{b}, true}},
			Writers: []Writer{{Needs: needs(b)}}, Collectors: 1, Generations: 2, Vanish: true,
		},
	}
}

// Long returns scopes that are explored in minutes.
func Long() []Scope { return append(longOnTime(), longLate()...) }

func longOnTime() []Scope {
	return []Scope{
		{
			Name: "two of each", About: "two writers, two collectors, two generations",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}, {Needs: needs(a)}}, Collectors: 2, Generations: 2,
		},
		{
			Name: "two of each, deltas", About: "a chain, two writers that add to it, two collectors",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: []Need{{c, b}}}, {Needs: []Need{{b, a}}}}, Collectors: 2, Generations: 1,
		},
		{
			Name: "delta generations", About: "a chain, a writer of two chunks, two generations, every list that may be condemned",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{a, b}, true}},
			Writers: []Writer{{Needs: []Need{{b, a}, {c, b}}}}, Collectors: 1, Generations: 2, AllLists: true,
		},
		{
			Name: "repack with two", About: "a chain is collapsed, a writer adds to it, two collectors",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: []Need{{b, a}}, Repack: true}, {Needs: []Need{{c, b}}}}, Collectors: 2, Generations: 1,
		},
		{
			Name: "circles with two", About: "circles, forgetable; a writer, two collectors, two generations",
			Packs:   []Copy{Full(a), Delta(b, a, 1), Full(b), Delta(a, b, 1)},
			Backups: []Backup{{[]int{a, b}, true}},
			Writers: []Writer{{Needs: needs(b)}}, Collectors: 2, Generations: 2,
		},
		{
			Name: "damaged chains", About: "a chain stored twice, in part damaged, a writer, two collectors",
			Packs:   []Copy{Full(a), Delta(b, a, 1), Full(b)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: []Need{{c, b}}}}, Collectors: 2, Generations: 1, Damage: true,
		},
		{
			Name: "damage, generations", About: "damage, a writer, two generations",
			Packs:   []Copy{Full(a), Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}}, Collectors: 2, Generations: 2, Damage: true,
		},
		{
			Name: "reader with two", About: "restored while it is repacked, two collectors, two generations",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{a, b}, true}},
			Writers: []Writer{{Needs: needs(b), Repack: true}}, Collectors: 2, Generations: 2, Reader: true,
		},
		{
			Name: "vanish with two", About: "listings lose a backup, two collectors",
			Packs:   []Copy{Full(a), Full(b)},
			Backups: []Backup{{[]int{a}, false}, {[]int{b}, true}},
			Writers: []Writer{{Needs: needs(b)}}, Collectors: 2, Generations: 2, Vanish: true, Omission: true,
		},
	}
}

func longLate() []Scope {
	return []Scope{
		{
			Name: "delay, two writers", About: "names are seen late: two writers, a collector",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}, {Needs: needs(a)}}, Collectors: 1, Generations: 1, Delay: true,
		},
		{
			Name: "delay, generations", About: "names are seen late: a writer, two collectors, two generations, a chunk stored twice",
			Packs:   []Copy{Full(a), Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}}, Collectors: 2, Generations: 2, Delay: true,
		},
		{
			Name: "delay, two of each", About: "names are seen late: two writers, two collectors",
			Packs:   []Copy{Full(a)},
			Backups: []Backup{{[]int{a}, true}},
			Writers: []Writer{{Needs: needs(a)}, {Needs: needs(a)}}, Collectors: 2, Generations: 1, Delay: true,
		},
		{
			Name: "delay, deltas", About: "names are seen late: a chain, a writer that adds to it, two collectors",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: []Need{{c, b}}}}, Collectors: 2, Generations: 1, Delay: true,
		},
		{
			Name: "delay, repack", About: "names are seen late: a chain is collapsed, a writer adds to it",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: needs(b), Repack: true}, {Needs: []Need{{c, b}}}}, Collectors: 1, Generations: 1, Delay: true,
		},
		{
			Name: "late reader with two", About: "the same, names are seen late, one generation",
			Packs:   []Copy{Full(a), Delta(b, a, 1)},
			Backups: []Backup{{[]int{b}, true}},
			Writers: []Writer{{Needs: needs(b), Repack: true}}, Collectors: 2, Generations: 1, Reader: true, Delay: true,
		},
	}
}
