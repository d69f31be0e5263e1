// Command fuzz runs what takes too long for the tests: "fuzz model" explores
// the protocol of commits and garbage collection at larger scopes and prints a
// table. It ends with 1 if data can be lost, or if a rule is not needed.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	p := &program{
		stdout: os.Stdout, //nolint:forbidigo // the program's own stream
		now:    time.Now,  //nolint:forbidigo // the program's one clock
	}
	if err := p.run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "fuzz: error: %v\n", err) //nolint:forbidigo // the program's own stream
		os.Exit(1)                                       //nolint:forbidigo // the program's exit code
	}
}

type program struct {
	stdout io.Writer
	now    func() time.Time
}

func (p *program) run(args []string) error {
	if len(args) != 1 || args[0] != "model" {
		return fmt.Errorf("got arguments %q, want model", args)
	}
	return p.model()
}
