package manifest

import (
	"regexp"
	"strings"
)

// redacted stands where a secret stood.
const redacted = "<redacted>"

var (
	// secretName matches the name of an option whose value is a secret:
	// passwords and passphrases of every kind, Galera's state transfer
	// user:password pair, MariaDB's key file password, tokens of key services.
	secretName = regexp.MustCompile(`(?i)passw|passphrase|secret|pwd|token|sst[-_]auth|filekey`)

	// secretValue matches a value, or a comment, that holds a secret within
	// other text: an option of another program, a statement, a URL.
	secretValue = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|pwd|token)\w*['"]?\s*[=:]` +
		`|identified\s+(by|via|with)|set\s+password|://[^/\s]*:[^/\s]*@` +
		`|#.*(passw|passphrase|secret|pwd|token)`)
)

// RedactConfig returns the text of an option file without its secrets, for
// information only: every value of an option whose name speaks of a password,
// passphrase, secret or token is replaced, also in options that are commented
// out, and so is every value that seems to hold a secret within other text.
// Too much is replaced rather than too little. Bytes that are not UTF-8
// become question marks. Sections, line ends and the order of lines stay.
func RedactConfig(text string) string {
	lines := strings.SplitAfter(strings.ToValidUTF8(text, "?"), "\n")
	for i, line := range lines {
		body := strings.TrimRight(line, "\r\n")
		lines[i] = redactLine(body) + line[len(body):]
	}
	return strings.Join(lines, "")
}

// redactLine returns one line, without its end, free of secrets.
func redactLine(line string) string {
	name, value, assigned := strings.Cut(line, "=")
	trimmed := strings.TrimSpace(line)
	comment := strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";")
	switch {
	case strings.HasPrefix(trimmed, "[") && strings.HasSuffix(trimmed, "]"):
		return line
	case assigned && (secretName.MatchString(name) || secretValue.MatchString(value)):
		return cutName(name) + "=" + redacted
	case !assigned && secretName.MatchString(line) && (comment || strings.ContainsAny(trimmed, " \t:")):
		return line[:len(line)-len(strings.TrimLeft(line, " \t"))] + "# " + redacted
	}
	return line
}

// cutName returns what stands before the first "=", unless that is more than
// an option's name: then it could hold the secret itself.
func cutName(name string) string {
	bare := strings.TrimLeft(name, " \t#;")
	if strings.ContainsAny(strings.TrimSpace(bare), " \t:'\"") {
		return "# " + redacted
	}
	return name
}
