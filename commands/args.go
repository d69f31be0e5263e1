package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"

	"github.com/shardseed/shardseed/internal/hint"
	"github.com/shardseed/shardseed/internal/ui"
)

// The words that ask for help or for the version wherever they stand.
const (
	helpWord    = "help"
	versionWord = "version"
)

// knownFlag is a flag of the program, under any of its names.
type knownFlag struct {
	flag       cli.Flag
	name       string   // the first of its names
	takesValue bool     // else it is a switch
	global     bool     // it belongs to every command
	commands   []string // the commands that have it, such as "primary set"
}

// flagTable finds a flag by any of its names, all with dashes. A flag means
// the same in every command that has it.
type flagTable map[string]*knownFlag

// newFlagTable collects every flag of app and of its commands.
func newFlagTable(app *cli.App) flagTable {
	table := flagTable{}
	table.add(&cli.BoolFlag{Name: helpWord, Aliases: []string{"h"}}, "") // cli adds it by itself, later
	for _, f := range app.Flags {
		table.add(f, "")
	}
	walkCommands(app.Commands, "", func(path string, c *cli.Command) {
		for _, f := range c.Flags {
			table.add(f, path)
		}
	})
	return table
}

// walkCommands calls visit for every command that does something itself, with
// the words that call it.
func walkCommands(list []*cli.Command, prefix string, visit func(path string, c *cli.Command)) {
	for _, c := range list {
		if len(c.Subcommands) > 0 {
			walkCommands(c.Subcommands, prefix+c.Name+" ", visit)
			continue
		}
		visit(prefix+c.Name, c)
	}
}

// add lists f for the command; "" means that f is global.
func (t flagTable) add(f cli.Flag, command string) {
	names := f.Names()
	documented, ok := f.(cli.DocGenerationFlag)
	if !ok {
		panic("commands: internal error: flag without documentation: " + names[0])
	}
	known := t[names[0]]
	if known == nil {
		known = &knownFlag{flag: f, name: names[0], takesValue: documented.TakesValue()}
	}
	if known.takesValue != documented.TakesValue() {
		panic("commands: internal error: flag with two meanings: " + known.name)
	}
	if command == "" {
		known.global = true
	} else {
		known.commands = append(known.commands, command)
	}
	for _, name := range names {
		t[name] = known
	}
}

// lookup finds the flag by a name as somebody wrote it, with "_" for "-" where
// he liked; nil: there is none.
func (t flagTable) lookup(name string) *knownFlag {
	return t[strings.ReplaceAll(name, "_", "-")]
}

// given is a flag as it stands on the command line.
type given struct {
	known *knownFlag
	text  string // as --name or --name=value, with the flag's first name
}

// words are the parts of a command line.
type words struct {
	flags       []given
	positionals []string
}

// arrange puts the arguments, without the program's name, into the one order
// that cli reads: global flags, command, its flags, "--", the rest. Flags may
// stand anywhere, with one dash or two and with "_" for "-"; the argument "--"
// ends them. Help and version are turned into the command line that gives
// them. The errors are usage errors.
func arrange(app *cli.App, args []string) ([]string, error) {
	table := newFlagTable(app)
	parts, err := split(table, args)
	if err != nil {
		return nil, err
	}
	if parts.asks(versionWord) {
		return append(parts.globals(app.Name), versionWord), nil
	}
	help := parts.asks(helpWord)
	if len(parts.positionals) > 0 && parts.positionals[0] == helpWord {
		help, parts.positionals = true, parts.positionals[1:]
	}
	if help && len(parts.positionals) == 0 {
		return append(parts.globals(app.Name), "--"+helpWord), nil
	}
	path, err := findCommand(app.Commands, parts.positionals, help)
	if err != nil {
		return nil, err
	}
	arranged := append(parts.globals(app.Name), path...)
	if help {
		return append(arranged, "--"+helpWord), nil
	}
	own, err := parts.of(strings.Join(path, " "))
	if err != nil {
		return nil, err
	}
	arranged = append(append(arranged, own...), "--")
	return append(arranged, parts.positionals[len(path):]...), nil
}

// split tells flags from positional arguments.
func split(table flagTable, args []string) (words, error) {
	var parts words
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			parts.positionals = append(parts.positionals, args[i+1:]...)
			break
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			parts.positionals = append(parts.positionals, arg)
			continue
		}
		name, value, valued := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		known := table.lookup(name)
		if known == nil {
			return words{}, unknownFlag(table, arg, name)
		}
		text := "--" + known.name
		switch {
		case valued:
			text += "=" + value
		case known.takesValue:
			i++
			if err := checkValue(table, known, args, i); err != nil {
				return words{}, err
			}
			text += "=" + args[i]
		}
		parts.flags = append(parts.flags, given{known, text})
	}
	return parts, nil
}

// checkValue refuses a flag at the end of the line, and one that would swallow
// the next flag because its own value was forgotten.
func checkValue(table flagTable, known *knownFlag, args []string, i int) error {
	if i >= len(args) {
		return usagef("flag --%s needs a value", known.name)
	}
	name, _, _ := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
	if strings.HasPrefix(args[i], "--") && table.lookup(name) != nil {
		return hint.Wrap(usagef("flag --%s needs a value, but %q follows", known.name, args[i]),
			fmt.Sprintf("write --%s=%s if that is the value", known.name, args[i]))
	}
	return nil
}

func unknownFlag(table flagTable, arg, name string) error {
	err := usagef("unknown flag %q", arg)
	if name != "" && strings.ContainsAny(name[:1], "0123456789") {
		return hint.Wrap(err, fmt.Sprintf("a shard is given as KEYSPACE/%s or --shard=%s", arg, arg))
	}
	names := make([]string, 0, len(table))
	for n := range table {
		if len(n) > 1 {
			names = append(names, n)
		}
	}
	if near := nearest(strings.ReplaceAll(name, "_", "-"), names); near != "" {
		return hint.Wrap(err, "did you mean --"+near)
	}
	return seeHelp(err, "")
}

// asks tells whether the switch of that name is given. It may be given as
// --help=false, for what that is worth.
func (w words) asks(name string) bool {
	return slices.ContainsFunc(w.flags, func(g given) bool {
		return g.known.name == name && g.text != "--"+name+"=false"
	})
}

// globals returns the program's name and the global flags that are given.
func (w words) globals(program string) []string {
	list := []string{program}
	for _, g := range w.flags {
		if g.known.global && g.known.name != helpWord && g.known.name != versionWord {
			list = append(list, g.text)
		}
	}
	return list
}

// of returns the given flags that are not global; the command must have them.
func (w words) of(command string) ([]string, error) {
	var list []string
	for _, g := range w.flags {
		switch {
		case g.known.global:
		case slices.Contains(g.known.commands, command):
			list = append(list, g.text)
		default:
			err := usagef("%s has no flag --%s; it belongs to: %s", command, g.known.name, strings.Join(g.known.commands, ", "))
			return nil, seeHelp(err, command)
		}
	}
	return list, nil
}

// findCommand returns the words of the command that the positional arguments
// begin with. For help, a command that only groups others will do.
func findCommand(list []*cli.Command, positionals []string, help bool) ([]string, error) {
	var path []string
	for {
		names := make([]string, len(list))
		for i, c := range list {
			names[i] = c.Name
		}
		group := strings.Join(path, " ")
		if len(positionals) == 0 {
			if help {
				return path, nil
			}
			return nil, seeHelp(usagef("no command given; %s has: %s", strings.TrimSpace(ui.Program+" "+group), strings.Join(names, ", ")), group)
		}
		word := positionals[0]
		at := slices.Index(names, word)
		if at < 0 {
			return nil, unknownCommand(group, word, names)
		}
		path, positionals = append(path, word), positionals[1:]
		if list = list[at].Subcommands; len(list) == 0 {
			return path, nil
		}
	}
}

func unknownCommand(group, word string, names []string) error {
	err := usagef("unknown command %q; %s has: %s", word, strings.TrimSpace(ui.Program+" "+group), strings.Join(names, ", "))
	if near := nearest(word, names); near != "" {
		return hint.Wrap(err, fmt.Sprintf("did you mean %q", strings.TrimSpace(group+" "+near)))
	}
	return seeHelp(err, group)
}

// nearest returns the name that word was probably meant to be, or "". Ties go
// to the first in alphabetical order.
func nearest(word string, names []string) string {
	const alike = 0.85 // below it a suggestion is more puzzling than none
	slices.Sort(names)
	best, found := alike, ""
	for _, name := range names {
		if score := smetrics.JaroWinkler(word, name, 0.7, 4); score > best {
			best, found = score, name
		}
	}
	return found
}
