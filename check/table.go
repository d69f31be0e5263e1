package check

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/shardseed/shardseed/manifest"
)

// tableOf returns "database.table" if a file of a server is a table's, or a part
// of one; else "". Names are as SQL has them.
// Source: MySQL 8.4 Reference Manual, "Mapping of Identifiers to File Names";
// MariaDB Server Documentation, "Identifier to File Name Mapping".
// A folder outside of the data directory may be the database's.
func tableOf(file manifest.Path, root string) string {
	folder, name := path.Split(string(file))
	if folder == "" {
		folder = root
	}
	database := path.Base(folder)
	extension := path.Ext(name)
	if folder == "" || !isTableFile(extension) {
		return ""
	}
	table := strings.TrimSuffix(name, extension)
	if extension == ".sdi" { // table_123.sdi
		if cut := strings.LastIndexByte(table, '_'); cut > 0 {
			table = table[:cut]
		}
	}
	lower := strings.ToLower(table)
	if cut := strings.Index(lower, "#p#"); cut > 0 {
		table = table[:cut]
	}
	if table == "" || database == "." || database == "/" || strings.HasPrefix(database, "#") || fullText.MatchString(lower) {
		return ""
	}
	return decodeName(database) + "." + decodeName(table)
}

// fullText is what InnoDB calls the tables behind a full-text index.
var fullText = regexp.MustCompile(`^fts_[0-9a-f]{16}_`)

func isTableFile(extension string) bool {
	switch extension {
	case ".ibd", ".MYD", ".MYI", ".MAD", ".MAI", ".frm", ".CSV", ".CSM", ".ARZ", ".sdi", ".MRG", ".isl":
		return true
	}
	return false
}

// decodeName turns "@0024" into "$". Other spellings stay as they are.
func decodeName(name string) string {
	var text strings.Builder
	for len(name) > 0 {
		if name[0] == '@' && len(name) >= 5 {
			if n, err := strconv.ParseUint(name[1:5], 16, 16); err == nil {
				text.WriteRune(rune(n))
				name = name[5:]
				continue
			}
		}
		text.WriteByte(name[0])
		name = name[1:]
	}
	return text.String()
}
