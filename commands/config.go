package commands

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/urfave/cli/v2/altsrc"
	"gopkg.in/yaml.v3"
)

// readConfig reads the YAML file of --config: one mapping from flag names to
// values, for flags of any command. A key is written as on the command line
// but without dashes before it. Keys that no flag has, keys given twice and
// values that do not fit the flag are usage errors, all of them in one.
func readConfig(table flagTable, path string) (altsrc.InputSourceContext, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("read configuration: %v", err)
	}
	values, err := decodeConfig(table, bytes.NewReader(text))
	if err != nil {
		var usage *usageError
		if errors.As(err, &usage) {
			for i, problem := range usage.problems {
				usage.problems[i] = fmt.Sprintf("configuration %s: %s", path, problem)
			}
			return nil, usage
		}
		return nil, usagef("configuration %s: %v", path, err)
	}
	return altsrc.NewMapInputSource(path, values), nil
}

// decodeConfig returns the values by the first name of their flags, in the Go
// types that altsrc expects.
func decodeConfig(table flagTable, r io.Reader) (map[any]any, error) {
	var document yaml.Node
	decoder := yaml.NewDecoder(r)
	values := map[any]any{}
	if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
		return values, nil
	} else if err != nil {
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second document follows the first")
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("want a mapping from flag names to values")
	}
	var k checks
	pairs := document.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		key, node := pairs[i], pairs[i+1]
		known := table.lookup(key.Value)
		switch {
		case known == nil:
			k.addf("line %d: no command has a flag %q", key.Line, key.Value)
		case !fromFile(known):
			k.addf("line %d: %q may only stand on the command line", key.Line, key.Value)
		case values[known.name] != nil:
			k.addf("line %d: %q is given twice", key.Line, known.name)
		default:
			value, err := configValue(known, node)
			if err != nil {
				k.addf("line %d: %q: %v", node.Line, key.Value, err)
			}
			values[known.name] = value
		}
	}
	if len(k.problems) > 0 {
		return nil, &usageError{problems: k.problems}
	}
	return values, nil
}

// fromFile tells whether a flag may stand in the configuration file.
func fromFile(known *knownFlag) bool {
	_, ok := known.flag.(altsrc.FlagInputSourceExtension)
	return ok
}

// configValue reads the value of a flag. It takes a scalar's text as it is
// written, so that shard: -80 is a text and no number.
func configValue(known *knownFlag, node *yaml.Node) (any, error) {
	if _, ok := known.flag.(*altsrc.StringSliceFlag); ok {
		return configList(node)
	}
	if node.Kind != yaml.ScalarNode {
		return nil, errors.New("want a single value")
	}
	switch known.flag.(type) {
	case *altsrc.StringFlag:
		return node.Value, nil
	case *altsrc.BoolFlag:
		if node.Value != "true" && node.Value != "false" {
			return nil, fmt.Errorf("want true or false, not %q", node.Value)
		}
		return node.Value == "true", nil
	case *altsrc.IntFlag:
		n, err := strconv.Atoi(node.Value)
		if err != nil {
			return nil, fmt.Errorf("want a whole number, not %q", node.Value)
		}
		return n, nil
	case *altsrc.DurationFlag:
		d, err := time.ParseDuration(node.Value)
		if err != nil {
			return nil, fmt.Errorf("want a duration such as 90s or 1h, not %q", node.Value)
		}
		return d, nil
	}
	panic("commands: internal error: flag of a kind that no file can hold: " + known.name)
}

// configList reads the values of a flag that may be repeated: a list, or a
// single value.
func configList(node *yaml.Node) (any, error) {
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	list := make([]any, 0, len(items))
	for _, item := range items {
		if item.Kind != yaml.ScalarNode {
			return nil, errors.New("want a list of single values")
		}
		list = append(list, item.Value)
	}
	return list, nil
}

// configure gives the flags of the command that runs the values of the
// configuration file, unless the command line or the environment has them.
func (r *run) configure(c *cli.Context) error {
	if r.config == nil {
		return nil
	}
	if err := altsrc.ApplyInputSourceValues(c, r.config, c.Command.Flags); err != nil {
		return usagef("configuration %s: %v", r.config.Source(), err)
	}
	return nil
}

// badValue turns what cli says of a flag's value into our words.
func badValue(_ *cli.Context, err error, _ bool) error {
	text := strings.ReplaceAll(err.Error(), "for flag -", "for flag --")
	return &usageError{problems: []string{strings.TrimSuffix(text, ": parse error")}}
}
