package commands

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shardseed/shardseed/manifest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/retention"
)

func (r *run) forgetCommand() *cli.Command {
	return &cli.Command{
		Name:      "forget",
		Usage:     "removes the backups of a shard that no rule keeps",
		ArgsUsage: "KEYSPACE/SHARD",
		Description: `Removes the backups of a shard that none of the given rules keeps, for good, and
tells of every backup what keeps it. The newest good backup and pinned ones are
always kept. "shardseed prune" frees the space.

Example:
  shardseed forget commerce/-80 --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run --root /backups`,
		Flags: []cli.Flag{
			countFlag("keep-last", "off", "keep the `N` newest backups"),
			countFlag("keep-hourly", "off", "keep the newest backup of each of the newest `N` hours that have one"),
			countFlag("keep-daily", "off", "likewise of `N` days, in UTC"),
			countFlag("keep-weekly", "off", "likewise of `N` weeks, which begin on Monday"),
			countFlag("keep-monthly", "off", "likewise of `N` months"),
			countFlag("keep-yearly", "off", "likewise of `N` years"),
			textFlag("keep-within", "keep all that are younger than the newest one by `TIME` at most, such as 36h, 30d or 2w"),
			switchFlag("dry-run", "only tell what would be removed"),
		},
		Action: frugal(r.forget),
	}
}

func (r *run) forget(c *cli.Context) error {
	var k checks
	root := checkGlobals(c, &k).repository(&k)
	shard := parseShard(&k, k.positionals(c, "KEYSPACE/SHARD")[0])
	opts := mysqlbackup.ForgetOptions{
		Keyspace: shard.keyspace, Shard: shard.shard,
		Policy: parsePolicy(c, &k), DryRun: c.Bool("dry-run"), Note: r.note("forget"), Now: r.opts.Now,
	}
	if err := k.err(c); err != nil {
		return err
	}
	repo, err := openRepository(c.Context, root)
	if err != nil {
		return err
	}
	opts.Repo = repo
	judged, err := mysqlbackup.Forget(c.Context, opts)
	if len(judged) == 0 && err == nil {
		return r.listNothing(c.Context, "forget", repo, shard)
	}
	r.tellForget(shard, judged, opts.DryRun)
	if err != nil {
		return err
	}
	return r.out.Err()
}

// note says who works on the repository.
func (r *run) note(reason string) mysqlbackup.Note {
	return mysqlbackup.Note{Time: r.opts.Now().UTC().Truncate(time.Second), Host: hostName(), ToolVersion: toolVersion(), Reason: reason}
}

// parsePolicy reads the rules, of which there must be one at least.
func parsePolicy(c *cli.Context, k *checks) retention.Policy {
	problems := len(k.problems)
	p := retention.Policy{
		Last:    count(c, k, "keep-last", 0),
		Hourly:  count(c, k, "keep-hourly", 0),
		Daily:   count(c, k, "keep-daily", 0),
		Weekly:  count(c, k, "keep-weekly", 0),
		Monthly: count(c, k, "keep-monthly", 0),
		Yearly:  count(c, k, "keep-yearly", 0),
		Within:  parseWithin(k, c.String("keep-within")),
	}
	if p.IsZero() && len(k.problems) == problems {
		k.addf("what is to be kept? give one at least of --keep-last, --keep-hourly, --keep-daily, --keep-weekly, --keep-monthly, --keep-yearly, --keep-within")
	}
	return p
}

var daysPattern = regexp.MustCompile(`^(?:([0-9]{1,4})w)?(?:([0-9]{1,5})d)?(.*)$`)

// parseWithin reads a positive duration that may begin with weeks and days; ""
// is none.
func parseWithin(k *checks, text string) time.Duration {
	if text == "" {
		return 0
	}
	parts := daysPattern.FindStringSubmatch(text)
	var err error
	total := time.Duration(0)
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} {
		if digits := parts[i+1]; digits != "" {
			n, _ := strconv.Atoi(digits) // a few digits
			total += time.Duration(n) * unit
		}
	}
	if rest := parts[3]; rest != "" {
		var more time.Duration
		more, err = time.ParseDuration(rest)
		if more < 0 {
			err = fmt.Errorf("negative")
		}
		total += more
	}
	if err != nil || total <= 0 {
		k.addf("flag --keep-within: %q is no positive duration, such as 36h, 30d or 2w", text)
		return 0
	}
	return total
}

// tellForget tells of each backup what keeps it, and how many there are.
func (r *run) tellForget(shard shardName, judged []mysqlbackup.Judged, dryRun bool) {
	rows := make([][]string, len(judged))
	keptCount, forgotten := 0, 0
	for i := range judged {
		j := &judged[i]
		r.out.Object(newVerdictObject(shard, j))
		rows[i] = []string{j.Name.String(), stateOf(&j.Entry), verdictOf(j, dryRun), joinRules(j.Rules)}
		switch {
		case j.Keep():
			keptCount++
		case j.Removed || dryRun:
			forgotten++
		}
	}
	r.out.Table([]string{"NAME", "STATE", "VERDICT", "RULES"}, rows)
	r.out.Object(struct {
		Type      string            `json:"type"`
		Keyspace  manifest.Keyspace `json:"keyspace"`
		Shard     manifest.Shard    `json:"shard"`
		Kept      int               `json:"kept"`
		Forgotten int               `json:"forgotten"`
		DryRun    bool              `json:"dry_run"`
	}{"forgotten", shard.keyspace, shard.shard, keptCount, forgotten, dryRun})
	switch {
	case dryRun:
		r.out.Text("%d would be kept, %d forgotten; nothing was changed", keptCount, forgotten)
	case forgotten > 0:
		r.out.Text("%d kept, %d forgotten; \"shardseed prune\" frees their space", keptCount, forgotten)
	default:
		r.out.Text("%d kept, none forgotten", keptCount)
	}
}

// stateOf says in a word or two how far a backup can be relied on.
func stateOf(e *mysqlbackup.Entry) string {
	switch {
	case e.Err != nil:
		return "unreadable"
	case e.Removing:
		return "being removed"
	case !e.Manifest.Good():
		return markKinds(e.Manifest.Marks)
	case !e.Good():
		return "drill failed"
	}
	return "good"
}

func verdictOf(j *mysqlbackup.Judged, dryRun bool) string {
	switch {
	case j.Keep():
		return "keep"
	case j.Removed || dryRun:
		return "forget"
	}
	return "not yet"
}

func joinRules(rules []retention.Rule) string {
	if len(rules) == 0 {
		return "-"
	}
	words := make([]string, len(rules))
	for i, rule := range rules {
		words[i] = string(rule)
	}
	return strings.Join(words, ", ")
}

// verdictObject is what becomes of a backup, in JSON.
type verdictObject struct {
	Type     string            `json:"type"` // "verdict"
	Keyspace manifest.Keyspace `json:"keyspace"`
	Shard    manifest.Shard    `json:"shard"`
	Name     manifest.Name     `json:"name"`
	Time     time.Time         `json:"time"` // as in the name
	State    string            `json:"state"`
	Keep     bool              `json:"keep"`
	Rules    []retention.Rule  `json:"rules"`   // that keep it
	Removed  bool              `json:"removed"` // by this run, or by somebody else meanwhile
}

func newVerdictObject(shard shardName, j *mysqlbackup.Judged) verdictObject {
	return verdictObject{
		"verdict", shard.keyspace, shard.shard, j.Name, j.Name.Time, stateOf(&j.Entry), j.Keep(),
		append([]retention.Rule{}, j.Rules...), j.Removed,
	}
}
