// Package vitess asks a Vitess cluster, and tells it things, through its own
// client program, vtctldclient, and reads what a vttablet tells of itself over
// HTTP. What the programs print is read by pure functions; it differs between
// commands, see [Type].
//
// Source: outputs of a v24 cluster, in testdata.
package vitess
