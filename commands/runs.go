package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shardseed/shardseed/internal/durable"
	"github.com/shardseed/shardseed/manifest"
)

// runNote is what the state folder keeps of the last backup, restore and startup
// that restored, of each shard and server on this host. It is for people and for monitoring.
type runNote struct {
	Type     string            `json:"type"`    // "run"
	Command  string            `json:"command"` // backup, restore or startup
	Keyspace manifest.Keyspace `json:"keyspace"`
	Shard    manifest.Shard    `json:"shard"`
	Alias    string            `json:"tablet_alias,omitempty"` // of a backup
	Backup   string            `json:"name,omitempty"`         // that was made or restored
	Started  time.Time         `json:"started"`
	Finished time.Time         `json:"finished"`
	ExitCode int               `json:"exit_code"`
	Message  string            `json:"message,omitempty"` // why it failed
}

// file is the note's name. Only the last part, the alias, may hold dots.
func (n runNote) file() string {
	parts := []string{"run", n.Command, string(n.Keyspace), string(n.Shard)}
	if n.Alias != "" {
		parts = append(parts, n.Alias)
	}
	return strings.Join(parts, ".") + ".json"
}

// noteRun writes how a run has ended. That it can't is only a warning.
func (r *run) noteRun(ctx context.Context, stateDir string, note runNote, err error) {
	note.Type, note.Finished, note.ExitCode = "run", r.opts.Now().UTC(), exitCode(ctx, err)
	if err != nil {
		note.Message = strings.Join(messages(err), "; ")
	}
	text, err := json.Marshal(note)
	if err == nil {
		err = durable.OS().MkdirAll(stateDir, 0o700)
	}
	if err == nil {
		err = durable.OS().Replace(filepath.Join(stateDir, note.file()), text, 0o600)
	}
	if err != nil {
		r.out.Warn(fmt.Sprintf("note how the run has ended: %v", err))
	}
}

// readRuns returns the notes of a state folder, oldest first.
func readRuns(stateDir string) ([]runNote, error) {
	paths, err := filepath.Glob(filepath.Join(stateDir, "run.*.json"))
	if err != nil {
		return nil, err
	}
	var notes []runNote
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the note of a run: %w", err)
		}
		var note runNote
		if err := json.Unmarshal(text, &note); err != nil {
			return nil, fmt.Errorf("read the note of a run %s: %w", path, err)
		}
		notes = append(notes, note)
	}
	slices.SortFunc(notes, func(a, b runNote) int { return a.Started.Compare(b.Started) })
	return notes, nil
}
