package mysqlbackup_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shardseed/shardseed/internal/mysqltest"
	"github.com/shardseed/shardseed/mysqlbackup"
	"github.com/shardseed/shardseed/replication"
)

// certificates are a certification authority and a server's certificate.
type certificates struct{ ca, certificate, key string }

// cnf lets a server offer TLS.
func (c certificates) cnf() []string {
	return []string{"ssl-ca=" + c.ca, "ssl-cert=" + c.certificate, "ssl-key=" + c.key}
}

// newCertificates makes certificates for the loopback address.
func newCertificates(t testing.TB) certificates {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
	}
	authorityKey, serverKey := newKey(t), newKey(t)
	dir := t.TempDir()
	c := certificates{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	writePEM(t, c.ca, "CERTIFICATE", sign(t, authority, authority, authorityKey, authorityKey))
	writePEM(t, c.certificate, "CERTIFICATE", sign(t, server, authority, serverKey, authorityKey))
	der, err := x509.MarshalPKCS8PrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, c.key, "PRIVATE KEY", der)
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, certificate, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := pem.Encode(file, &pem.Block{Type: kind, Bytes: der}); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReplicationAccount restores replicas of primaries with and without TLS,
// whose replication accounts want it or not, and restarts primary and replica:
// a connection that needs a password cache to be warm would fail then.
func TestReplicationAccount(t *testing.T) {
	t.Parallel()
	plain := map[replication.Flavor]mysqltest.Options{replication.MySQL: {Cnf: []string{"tls-version="}}, replication.MariaDB: {}}
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		for _, test := range []struct {
			name    string
			options mysqltest.Options
			require string
			tls     bool
		}{
			{"TLS", mysqltest.Options{Cnf: newCertificates(t).cnf()}, "SSL", true},
			{"no TLS", plain[flavor], "NONE", false},
		} {
			b := newBench(t)
			primary := mysqltest.Start(t, flavor, test.options)
			primary.Write(t, 5)
			primary.Exec(t, fmt.Sprintf("ALTER USER %s@'%%' REQUIRE %s", mysqltest.ReplUser, test.require))
			b.setPrimary(t, primary)
			opts := b.backupOptions(t, primary)
			opts.AllowPrimary = true
			b.mustBackUp(t, opts)
			target := b.seed(t, flavor, mysqltest.Options{})
			if got := channelsOf(t, target)[""].TLS; got != test.tls {
				t.Errorf("%s: the replica connects by TLS: %t, want %t", test.name, got, test.tls)
			}
			target.Stop(t)
			primary.Kill(t) // a shutdown would wait for the connections of replicas
			primary.Start(t)
			target.Start(t)
			checkThreads(t, target, map[string]string{"": "Yes Yes"})
			primary.Write(t, 1)
			target.WaitForReplica(t, primary)
		}
	})
}

// TestRepointKeepsTLS makes another server the primary while the replica is
// copied: it follows the new one as it followed the old one, by TLS, verifying
// the certificate. By file and position it can't follow, and is left alone.
func TestRepointKeepsTLS(t *testing.T) {
	t.Parallel()
	parallelFlavors(t, func(t *testing.T, flavor replication.Flavor) {
		b := newBench(t)
		tls := newCertificates(t)
		primary := mysqltest.Start(t, flavor, mysqltest.Options{Cnf: tls.cnf()})
		primary.Write(t, 5)
		next := mysqltest.StartReplica(t, primary, mysqltest.Options{Cnf: tls.cnf()})
		replica := mysqltest.StartReplica(t, primary, mysqltest.Options{})
		primary.Exec(t, fmt.Sprintf("ALTER USER %s@'%%' REQUIRE SSL", mysqltest.ReplUser))
		next.WaitForReplica(t, primary)
		verify := map[replication.Flavor]string{
			replication.MySQL:   "CHANGE REPLICATION SOURCE TO SOURCE_SSL=1, SOURCE_SSL_CA='%s', SOURCE_SSL_VERIFY_SERVER_CERT=1, SOURCE_DELAY=0",
			replication.MariaDB: "CHANGE MASTER TO MASTER_SSL=1, MASTER_SSL_CA='%s', MASTER_SSL_VERIFY_SERVER_CERT=1",
		}[flavor]
		d := dialectOf(t, replica)
		replica.Exec(t, d.StopReplica, fmt.Sprintf(verify, tls.ca), d.StartReplica)
		replica.WaitForReplica(t, primary)
		b.setPrimary(t, primary)

		b.at(mysqlbackup.StepCopy, func() {
			promote(t, next)
			b.setPrimary(t, next)
			next.Write(t, 3)
		})
		b.mustBackUp(t, b.backupOptions(t, replica))
		replica.WaitForReplica(t, next)
		checkVerifies(t, replica, tls, next.Port)

		byPosition := map[replication.Flavor][]string{
			replication.MySQL:   {"CHANGE REPLICATION SOURCE TO SOURCE_AUTO_POSITION=0"},
			replication.MariaDB: {"CHANGE MASTER TO MASTER_USE_GTID=no"},
		}[flavor]
		replica.Exec(t, append(append([]string{d.StopReplica}, byPosition...), d.StartReplica)...)
		b.at(mysqlbackup.StepCopy, func() { b.setPrimary(t, primary) })
		b.progress.warned = nil
		b.mustBackUp(t, b.backupOptions(t, replica))
		b.checkWarned(t, "by file and position, which mean nothing on another server")
		checkVerifies(t, replica, tls, next.Port)
	})
}

// checkVerifies verifies that a replica verifies its source's certificate.
func checkVerifies(t testing.TB, replica *mysqltest.Server, tls certificates, port int) {
	t.Helper()
	row := replica.ReplicaStatus(t)
	for name, want := range map[string]string{
		"Source_SSL_Allowed": "Yes", "Source_SSL_CA_File": tls.ca, "Source_SSL_Verify_Server_Cert": "Yes", "Source_Port": fmt.Sprint(port),
	} {
		if replica.Flavor == replication.MariaDB {
			name = "Master" + name[len("Source"):]
		}
		if row[name] != want {
			t.Errorf("%s is %q, want %q", name, row[name], want)
		}
	}
}
