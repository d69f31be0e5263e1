// Package simulate runs the code of writers, readers and garbage collection over
// a store in memory whose operations a scheduler picks one by one, from a seed:
// each actor is a host of its own, any of them may stall or die between any two
// operations, operations fail before or after their effect, and names are seen
// late. Time is virtual. All is in its tests:
//
//	go test ./fuzz/simulate -seed 1 -runs 1000
//
// The seed of a run that failed is printed; -seed with it and -runs 1 takes the
// same steps again, and -v prints them.
package simulate
