// Package soak lets several hosts work in one repository for minutes or hours:
// real servers of both flavors under writes, of which processes of shardseed,
// each host with its own state, cache and configuration, make backups, restore
// them, drill them, forget, prune, check and repair, all at once. Processes of
// shardseed and servers are killed or stalled at random moments.
//
// What the tables hold is a function of how many transactions a server has, so
// that every restored backup, at whatever position, is compared with a model and
// not with a copy. How each command may end is in a table; see tolerances. At the
// end everything settles: servers replicate, every listed backup is restored and
// compared, every byte is checked, and once all backups are removed no pack is
// left. All is in its tests:
//
//	go test ./fuzz/soak -minutes 10 -seed 1
//
// The seed decides what is done, not when it comes to what: two runs of a seed
// do not take the same steps. A run that fails keeps its folders and says where.
package soak
