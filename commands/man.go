package commands

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/internal/ui"
)

func (r *run) manCommand() *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "prints the manual page",
		Description: `Prints the manual page, made from the help of all commands.

Example:
  shardseed man`,
		Action: r.man,
	}
}

func (r *run) man(c *cli.Context) error {
	var k checks
	k.positionals(c)
	if err := k.err(c); err != nil {
		return err
	}
	text := manPage(c.App)
	r.out.Object(struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}{"man", text})
	r.out.Text("%s", strings.TrimSuffix(text, "\n"))
	return r.out.Err()
}

// manPage returns the manual page in the language of man(7).
func manPage(app *cli.App) string {
	var page strings.Builder
	fmt.Fprintf(&page, ".TH %s 8\n.SH NAME\n%s \\- %s\n", strings.ToUpper(ui.Program), ui.Program, roff(app.Usage))
	fmt.Fprintf(&page, ".SH SYNOPSIS\n%s\n.SH DESCRIPTION\n%s", roff(app.UsageText), manText(app.Description))
	page.WriteString(".SH GLOBAL FLAGS\n")
	manFlags(&page, app.Flags)
	page.WriteString(".SH COMMANDS\n")
	walkCommands(app.Commands, "", func(path string, c *cli.Command) {
		fmt.Fprintf(&page, ".SS %s\n%s\n.PP\n%s", roff(strings.TrimSpace(path+" "+c.ArgsUsage)), roff(c.Usage), manText(c.Description))
		manFlags(&page, c.Flags)
	})
	page.WriteString(".SH EXIT STATUS\n")
	for _, row := range exitTable() {
		fmt.Fprintf(&page, ".TP\n.B %d\n%s\n", row.code, roff(row.meaning))
	}
	return page.String()
}

// manFlags writes what flags mean.
func manFlags(page *strings.Builder, flags []cli.Flag) {
	for _, f := range flags {
		documented, ok := f.(cli.DocGenerationFlag)
		if !ok || f.Names()[0] == helpWord {
			continue
		}
		usage := documented.GetUsage()
		value, plain := "", usage
		if before, rest, found := strings.Cut(usage, "`"); found {
			name, after, _ := strings.Cut(rest, "`")
			value, plain = " \\fI"+roff(name)+"\\fR", before+name+after
		}
		fmt.Fprintf(page, ".TP\n\\fB%s\\fR%s\n%s", roff("--"+strings.Join(f.Names(), ", --")), value, roff(plain))
		if text := documented.GetDefaultText(); text != "" && documented.TakesValue() {
			fmt.Fprintf(page, " (%s)", roff("default: "+text))
		}
		page.WriteString("\n")
	}
}

// manText writes paragraphs; what is indented stays as it is.
func manText(text string) string {
	var page strings.Builder
	literal := false
	for line := range strings.Lines(strings.TrimSpace(text) + "\n") {
		line = strings.TrimSuffix(line, "\n")
		indented := strings.HasPrefix(line, " ")
		if indented != literal {
			page.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[indented])
			literal = indented
		}
		if line == "" {
			line = ".PP"
		} else {
			line = roff(line)
		}
		page.WriteString(line + "\n")
	}
	if literal {
		page.WriteString(".fi\n")
	}
	return page.String()
}

// roff quotes what roff would take for a command or a hyphen.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}
