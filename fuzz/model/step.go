package model

import (
	"fmt"
	"strings"
)

// kind is what happens in a step.
type kind uint8

const (
	reserves kind = iota
	readsLists
	findsStored
	storesFull
	storesDelta
	checksPacks
	checkFails
	commits
	findsRevoked
	leaves

	adopts
	listsPacks
	marks
	condemns
	losesCondemned
	waits
	listsSessions
	announces
	losesWaiting
	fencesOpen
	fencesCommitted
	doesNotFence
	listsRegisters
	marksAgain
	stops
	finalizes
	losesFinal
	crashes

	pins
	findsBackup
	findsForgotten
	plans
	reads
	missesPack
	looksAgain
	restores
	fails
	standsStill

	deletes
	forgets
	damages
	vanishes

	numKinds
)

func (k kind) String() string {
	return [numKinds]string{
		"reserves its session", "reads gc/ and damaged/", "finds a chunk stored", "stores a chunk in full", "stores a delta",
		"checks what it relies on", "fails its check", "creates its register", "finds itself revoked", "revokes itself",
		"adopts the condemned list", "lists packs", "lists registers and marks", "publishes the condemned list",
		"finds a condemned list", "waits d", "lists sessions", "publishes whom to wait for",
		"finds the list of whom to wait for", "revokes a session", "finds a session committed",
		"leaves a session alone", "lists registers again", "lists packs again and marks", "stops", "publishes the final list",
		"finds a final list", "crashes",
		"pins", "finds the backup", "finds the backup forgotten", "plans a chunk", "reads a frame", "misses a pack",
		"waits d after a miss", "has restored the backup", "fails", "stands still",
		"is deleted", "is forgotten", "is marked as damaged", "vanishes from listings",
	}[k]
}

// step is one step of an actor, for traces.
type step struct {
	actor string
	n     int // which, from 0
	kind  kind
	packs set
	keys  set
	chunk int // plus one; 0: none
}

func (t step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", t.actor)
	if t.n >= 0 {
		fmt.Fprintf(&b, " %d", t.n+1)
	}
	fmt.Fprintf(&b, " %s", t.kind)
	if t.chunk != 0 {
		fmt.Fprintf(&b, " %c", 'a'+t.chunk-1)
	}
	if t.packs != 0 {
		fmt.Fprintf(&b, " packs %s", names(t.packs, func(i int) string { return fmt.Sprintf("p%d", i) }))
	}
	if t.keys != 0 {
		fmt.Fprintf(&b, " backups %s", names(t.keys, keyName))
	}
	return b.String()
}

func keyName(key int) string { return string(rune('A' + key)) }

func names(a set, name func(int) string) string {
	var parts []string
	for ; a != 0; a = a.rest() {
		parts = append(parts, name(a.first()))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

// emit takes a step and the state after it.
type emit func(step, state)

// steps calls f with every step that somebody can take.
func (m *machine) steps(s *state, f emit) {
	for w := range m.Writers {
		m.writerSteps(s, w, f)
	}
	for c := range m.Collectors {
		m.collectorSteps(s, c, f)
	}
	if m.Reader {
		m.readerSteps(s, f)
	}
	m.worldSteps(s, f)
}

// Kinds returns what can happen in a step.
func Kinds() []string {
	all := make([]string, numKinds)
	for i := range all {
		all[i] = kind(i).String()
	}
	return all
}
