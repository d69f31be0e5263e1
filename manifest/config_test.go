package manifest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedactConfig(t *testing.T) {
	t.Parallel()
	in := strings.Join([]string{
		"# the replica",
		"[client]",
		"password = hunter2",
		"[mysqld]",
		"datadir=/var/lib/mysql",
		"server-id=7",
		"default_authentication_plugin=mysql_native_password",
		"master_password='hunter2'\r",
		"loose-ssl_passphrase=\"hunter2\"",
		"admin-ssl-key=/etc/mysql/key.pem",
		"#report-password=hunter2",
		"; my secret is hunter2",
		"  wsrep_sst_auth=sst:hunter2",
		"file-key-management-filekey=hunter2",
		"hashicorp-key-management-token=hunter2",
		"init_connect=\"SET PASSWORD 'hunter2'\"",
		"plugin_x=PASSWORD='hunter2'",
		"proxy=http://bob:hunter2@example.org/",
		"port=3306 # password: hunter2",
		"password hunter2",
		"some password hunter2 = x",
		"skip-name-resolve",
		"password",
		"!includedir /etc/mysql/conf.d/",
		"[mysqldump]",
		"PassWord=hunter2",
	}, "\n") + "\n"
	want := strings.Join([]string{
		"# the replica",
		"[client]",
		"password =<redacted>",
		"[mysqld]",
		"datadir=/var/lib/mysql",
		"server-id=7",
		"default_authentication_plugin=mysql_native_password",
		"master_password=<redacted>\r",
		"loose-ssl_passphrase=<redacted>",
		"admin-ssl-key=/etc/mysql/key.pem",
		"#report-password=<redacted>",
		"# <redacted>",
		"  wsrep_sst_auth=<redacted>",
		"file-key-management-filekey=<redacted>",
		"hashicorp-key-management-token=<redacted>",
		"init_connect=<redacted>",
		"plugin_x=<redacted>",
		"proxy=<redacted>",
		"port=<redacted>",
		"# <redacted>",
		"# <redacted>=<redacted>",
		"skip-name-resolve",
		"password",
		"!includedir /etc/mysql/conf.d/",
		"[mysqldump]",
		"PassWord=<redacted>",
	}, "\n") + "\n"
	if diff := cmp.Diff(want, RedactConfig(in)); diff != "" {
		t.Errorf("redacted text (-want +got):\n%s", diff)
	}
}

func TestRedactConfigEdges(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                       "",
		"\n\n":                   "\n\n",
		"password=x":             "password=<redacted>",
		"password=":              "password=<redacted>",
		"a=b\xff":                "a=b?",
		"datadir=/x\rpassword=y": "datadir=<redacted>",
		"=":                      "=",
		"[password]":             "[password]",
	} {
		if got := RedactConfig(in); got != want {
			t.Errorf("RedactConfig(%q): got %q, want %q", in, got, want)
		}
	}
}

func FuzzRedactConfig(f *testing.F) {
	f.Add("password", "=")
	f.Add("loose_master-password", " = \"")
	f.Add("#ssl_passphrase", "='")
	f.Add("[mysqld]\nmy-secret", "\t=\t")
	f.Fuzz(func(t *testing.T, before, between string) {
		const secret = "Zq7hunter2"
		text := RedactConfig(before + between + secret + "\n")
		if RedactConfig(text) != text {
			t.Errorf("%q becomes %q when redacted again", text, RedactConfig(text))
		}
		last := before[strings.LastIndexByte(before, '\n')+1:]
		if secretName.MatchString(last) && strings.Contains(between, "=") &&
			!strings.ContainsAny(between, "\n[]") && !strings.HasPrefix(strings.TrimSpace(last), "[") && strings.Contains(text, secret) {
			t.Errorf("%q keeps the secret", text)
		}
	})
}
