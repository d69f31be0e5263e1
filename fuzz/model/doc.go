// Package model explores the protocol of commits and garbage collection
// exhaustively at small scope: every state that writers, repackers, collectors
// and a reader can bring a repository into, whatever the order of their steps.
//
// A step is one operation on the shared store: a listing, a creation, a read, a
// deletion. Between any two steps of one actor all others may take any number
// of theirs, so an actor that stalls or dies for good is in every run. What a
// name's creator sees at once others may see late, see and not see again, until
// a wait of the stated bound has passed; see [Scope].
//
// A pack holds one frame here. Larger packs are groups of such packs that live
// and die together, so whatever can happen to them happens here too. A chunk of
// a backup stands for its data, its recipe and its list of files alike.
//
// After each step must hold: every backup that is committed and neither
// forgotten nor hurt by damage itself can be restored, that is, each of its
// chunks has a copy with a whole chain of bases of falling depth in packs that
// exist and are not damaged; and a reader whose pin counts does not fail. Each
// [Rule] can be dropped, to see that it is needed.
package model
