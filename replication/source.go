package replication

import (
	"strconv"
	"strings"
)

const (
	// connectRetry is how long a replica waits before it connects again, in
	// seconds. The servers' default is 60: too long to watch.
	connectRetry = 10
	// retryCount is how often a replica tries to connect before it gives up: for
	// ten days. MySQL 9.7 would give up after ten times, long before a primary's
	// machine is back. MariaDB takes it as an option of the server only.
	retryCount = 86400
)

// SourceOptions say where a replica replicates from.
type SourceOptions struct {
	Channel  string // "" is the default channel
	Host     string
	Port     int
	User     string // "" keeps the account that the channel has
	Password string // goes with User

	AutoPosition bool   // by GTID: else from File and Offset
	File         string // the source's binary log
	Offset       uint64 // bytes

	TLS       bool // connect with TLS; the certificate is not verified
	PublicKey bool // MySQL: ask the source for its public key, which caching_sha2_password needs without TLS
}

// Redacted returns o with the password hidden, for logs:
// d.ChangeSource(o.Redacted()).
func (o SourceOptions) Redacted() SourceOptions {
	if o.Password != "" {
		o.Password = "***"
	}
	return o
}

// ChangeSource points a stopped channel at its source. Whatever a server would
// otherwise keep or decide by itself (TLS, public key, GTID use) is set in so
// many words. The statement holds the password.
func (d Dialect) ChangeSource(o SourceOptions) string {
	if d.Version.Flavor == MariaDB {
		return "CHANGE MASTER " + Quote(o.Channel) + " TO " + mariaDBSource(o)
	}
	if !d.Version.AtLeast(8, 0, 23) {
		return "CHANGE MASTER TO " + mysqlSource(o, "MASTER_") + " FOR CHANNEL " + Quote(o.Channel)
	}
	return "CHANGE REPLICATION SOURCE TO " + mysqlSource(o, "SOURCE_") + " FOR CHANNEL " + Quote(o.Channel)
}

// MoveSource points a stopped channel that replicates by GTID at another host,
// and leaves all else as it is: the account, TLS with its certificates, the
// delay.
func (d Dialect) MoveSource(channel, host string, port int) string {
	to := func(prefix string) string {
		return " TO " + prefix + "HOST=" + Quote(host) + ", " + prefix + "PORT=" + strconv.Itoa(port)
	}
	switch {
	case d.Version.Flavor == MariaDB:
		return "CHANGE MASTER " + Quote(channel) + to("MASTER_")
	case !d.Version.AtLeast(8, 0, 23):
		return "CHANGE MASTER" + to("MASTER_") + " FOR CHANNEL " + Quote(channel)
	}
	return "CHANGE REPLICATION SOURCE" + to("SOURCE_") + " FOR CHANNEL " + Quote(channel)
}

func mysqlSource(o SourceOptions, prefix string) string {
	terms := commonTerms(o, prefix)
	terms = append(terms, prefix+"RETRY_COUNT="+strconv.Itoa(retryCount), prefix+"AUTO_POSITION="+flag(o.AutoPosition))
	if !o.AutoPosition {
		terms = append(terms, fileTerms(o, prefix)...)
	}
	terms = append(terms, prefix+"SSL="+flag(o.TLS), prefix+"SSL_VERIFY_SERVER_CERT=0", "GET_"+prefix+"PUBLIC_KEY="+flag(o.PublicKey))
	return strings.Join(terms, ", ")
}

func mariaDBSource(o SourceOptions) string {
	terms := commonTerms(o, "MASTER_")
	if o.AutoPosition {
		terms = append(terms, "MASTER_USE_GTID=slave_pos")
	} else {
		terms = append(append(terms, "MASTER_USE_GTID=no"), fileTerms(o, "MASTER_")...)
	}
	terms = append(terms, "MASTER_SSL="+flag(o.TLS), "MASTER_SSL_VERIFY_SERVER_CERT=0")
	return strings.Join(terms, ", ")
}

// commonTerms are the options that differ by their prefix only.
func commonTerms(o SourceOptions, prefix string) []string {
	terms := []string{
		prefix + "HOST=" + Quote(o.Host),
		prefix + "PORT=" + strconv.Itoa(o.Port),
	}
	if o.User != "" {
		terms = append(terms, prefix+"USER="+Quote(o.User), prefix+"PASSWORD="+Quote(o.Password))
	}
	return append(terms, prefix+"CONNECT_RETRY="+strconv.Itoa(connectRetry))
}

func fileTerms(o SourceOptions, prefix string) []string {
	return []string{
		prefix + "LOG_FILE=" + Quote(o.File),
		prefix + "LOG_POS=" + strconv.FormatUint(o.Offset, 10),
	}
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// Quote returns text as a string literal of both flavors. It holds in sessions
// whose sql_mode is without NO_BACKSLASH_ESCAPES: set that first.
func Quote(text string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(text) {
		switch c := text[i]; c {
		case 0:
			b.WriteString(`\0`)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case 0x1a: // ends a text file on some systems
			b.WriteString(`\Z`)
		case '\'', '"', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
