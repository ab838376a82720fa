package crdb

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/punchclock/punchclock/node/certs"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// as connects in one of the roles.
func (s *store) as(role string) *pgx.Conn {
	s.tb.Helper()
	conn, err := pgx.Connect(s.ctx, s.server.URLAs(role, s.admin.Config().Database, "us-east"))
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = conn.Close(s.ctx) })
	return conn
}

// mustRefuse runs statements for which the role has no right.
func (s *store) mustRefuse(role string, statements ...string) {
	s.tb.Helper()
	conn := s.as(role)
	for _, statement := range statements {
		_, err := conn.Exec(s.ctx, statement)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
			s.tb.Errorf("%s: %s: %v, want 42501, no right to it", role, statement, err)
		}
	}
}

// TestTheNodeRole does all that a node does. It cannot change punches or tables.
func TestTheNodeRole(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		company := s.company("us-east")
		db := s.mustOpenWith(testConfig(s.server.URLAs(NodeRole, cluster.DatabaseName, "us-east")), testDeps())
		item := s.item(company, "us-east", "anna")
		for _, replayed := range []bool{false, true} {
			item.TraceID = fmt.Sprint(replayed) // another request
			out := db.Writer("us-east").Write(s.ctx, []punch.Item{item})
			if wantCode(t, out[0], ""); out[0].Receipt.Replayed != replayed {
				t.Errorf("the receipt says replayed %t, want %t", out[0].Receipt.Replayed, replayed)
			}
		}
		if _, err := db.Find(s.ctx, "us-east", item.Key()); err != nil {
			t.Errorf("find: %v", err)
		}
		if _, err := db.Home(s.ctx, company); err != nil {
			t.Errorf("home: %v", err)
		}
		if err := db.CheckSchema(s.ctx); err != nil {
			t.Errorf("schema: %v", err)
		}
		if err := db.Homes(s.ctx, 1, func(string, region.Home) {}); err != nil {
			t.Errorf("homes: %v", err)
		}
		if _, err := db.Switches(s.ctx); err != nil {
			t.Errorf("switches: %v", err)
		}
		s.mustRefuse(NodeRole,
			`UPDATE punches SET note = 'changed'`, `DELETE FROM punches`, `TRUNCATE punches`, `DROP TABLE punches`,
			`INSERT INTO punches SELECT * FROM punches
				ON CONFLICT (crdb_region, company_id, day, employee_id, punch_id) DO UPDATE SET note = 'changed'`,
			`ALTER TABLE punches ADD COLUMN more TEXT`, `ALTER TABLE punches DROP CONSTRAINT punches_kind`, `CREATE INDEX more ON punches (note)`,
			`CREATE TABLE more (a INT8)`, `CREATE SCHEMA more`,
			`UPDATE homes SET epoch = epoch + 1`, `DELETE FROM homes`, `INSERT INTO homes (crdb_region, company_id, epoch)
				VALUES ('us-east', 'x', 1)`,
			`UPDATE companies SET epoch = epoch + 1`, `DELETE FROM companies`, `DELETE FROM controls`, `DELETE FROM goose_db_version`,
			`CREATE ROLE more`, `SET ROLE `+MigratorRole, `CREATE DATABASE more`,
		)
		beyond := map[Engine][]string{
			PostgreSQL: {`COPY punches TO PROGRAM 'true'`, `SELECT pg_read_file('PG_VERSION')`, `DELETE FROM punches_us_east`,
				`UPDATE homes SET crdb_region = 'eu-west'`},
			CockroachDB: {`SET CLUSTER SETTING sql.defaults.vectorize = 'off'`, `UPSERT INTO homes (crdb_region, company_id, epoch)
				VALUES ('us-east', 'x', 1)`,
				`EXPORT INTO CSV 'nodelocal://1/stolen' FROM TABLE punches`, `ALTER DATABASE clock SURVIVE ZONE FAILURE`},
		}
		s.mustRefuse(NodeRole, beyond[s.Engine]...)
		// PostgreSQL only warns when the grantor does not have the right.
		_, _ = s.as(NodeRole).Exec(s.ctx, `GRANT DELETE ON punches TO `+NodeRole)
		s.mustRefuse(NodeRole, `DELETE FROM punches`)
		if n := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company); n != 1 {
			t.Errorf("%d punches, want the one", n)
		}
	})
}

func TestTheOperatorRole(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		db := s.mustOpenWith(testConfig(s.server.URLAs(OperatorRole, cluster.DatabaseName, "us-east")), testDeps())
		c := Company{ID: "o-" + punch.NewID().String(), Name: "Operator's", HomeRegion: "us-east", TimeZone: "UTC"}
		for range 2 {
			if outcomes, err := db.CreateCompanies(s.ctx, []Company{c}); err != nil || outcomes[0] != nil {
				t.Fatalf("%v, %v", outcomes, err)
			}
		}
		s.mustRefuse(OperatorRole,
			`DELETE FROM punches`, `UPDATE punches SET note = 'changed'`, `DELETE
				FROM companies`, `DROP TABLE companies`, `CREATE TABLE more (a INT8)`,
			`INSERT INTO punches SELECT * FROM punches`, `UPDATE controls SET version = 0`,
		)
	})
}

// migrateRestoresTheRoles runs after an administrator gave a node more rights and owned some tables, as after the
// restore of a backup.
func migrateRestoresTheRoles(t *testing.T, own *store) {
	url := own.cfg.URL
	name := mustParse(t, url).Database
	own.exec(`GRANT DELETE ON punches TO ` + NodeRole)
	own.exec(`REVOKE INSERT ON punches FROM ` + NodeRole)
	own.exec(`GRANT INSERT ON homes TO PUBLIC`)
	own.exec(`GRANT DELETE ON goose_lock TO ` + NodeRole)
	// Changes outside of this database must not disturb other tests.
	own.exec(`CREATE ROLE ` + name)
	own.exec(`GRANT ` + name + ` TO ` + NodeRole)
	own.exec(`ALTER ROLE ` + OperatorRole + ` WITH CREATEDB`)
	own.exec(`GRANT CREATE ON DATABASE ` + name + ` TO ` + NodeRole)
	if own.Engine == PostgreSQL {
		own.exec(`GRANT UPDATE (epoch) ON homes TO ` + NodeRole)
		own.exec(`GRANT UPDATE (note) ON punches TO PUBLIC`)
		own.exec(`GRANT DELETE ON punches_us_east TO ` + NodeRole)
	}
	admin := own.admin.Config().User
	for _, table := range []string{"homes", "goose_db_version", "goose_lock"} {
		own.exec(`ALTER TABLE ` + table + ` OWNER TO ` + admin)
	}
	if own.Engine == CockroachDB {
		own.exec(`ALTER SEQUENCE goose_db_version_id_seq OWNER TO ` + admin)
	}
	own.exec(`DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`) // its statements can run twice
	if _, err := own.as(NodeRole).Exec(own.ctx, `DELETE FROM punches`); err != nil {
		t.Fatalf("the granted right does not work, so the test proves nothing: %v", err)
	}
	for _, as := range []string{url, own.server.URLAs(MigratorRole, name, "us-east")} {
		if _, err := Migrate(own.ctx, as, regions, testDeps().Log); err != nil {
			t.Fatalf("%s: %v", mustParse(t, as).User, err)
		}
	}
	own.mustRefuse(NodeRole, `DELETE FROM punches`, `UPDATE homes SET epoch = 2`, `UPDATE punches SET note = ''`, `DELETE FROM goose_lock`,
		`INSERT INTO homes (crdb_region, company_id, epoch) VALUES ('us-east', 'x', 1)`, `CREATE SCHEMA more`)
	if n := own.count(`SELECT count(*) FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member WHERE r.rolname = $1`,
		NodeRole); n != 0 {
		t.Errorf("the node's role is a member of %d others", n)
	}
	own.mustRefuse(OperatorRole, `CREATE DATABASE more`)
	if own.Engine == PostgreSQL {
		own.mustRefuse(NodeRole, `DELETE FROM punches_us_east`)
	}
	n := own.count(`SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'S') AND pg_get_userbyid(c.relowner) <> $1`, MigratorRole)
	if n != 0 {
		t.Errorf("%d tables are not the migrator's again", n)
	}
	if _, err := own.as(NodeRole).Exec(own.ctx, `INSERT INTO punches SELECT * FROM punches`); err != nil {
		t.Errorf("the node's right was not given back: %v", err)
	}
	if _, err := Migrate(own.ctx, own.server.URLAs(NodeRole, name, "us-east"), append(regions, "more"), testDeps().Log); err == nil {
		t.Error("a node may migrate")
	}
}

// TestClientCertificatesAreReadAnew lets a certificate expire. An old connection keeps working, a new connection is
// refused, and a renewed certificate is accepted.
func TestClientCertificatesAreReadAnew(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		own := certs.Dir(filepath.Join(t.TempDir(), "certs"))
		if out, err := exec.Command("cp", "-r", filepath.Join(s.server.Dir(), "certs"), string(own)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		renew := func(life time.Duration) {
			t.Helper()
			err := own.Make(certs.Dev{Deployment: "x", Regions: regions, DatabaseHosts: []string{"localhost"},
				DatabaseUsers: []string{NodeRole}, Life: life})
			if err != nil {
				t.Fatal(err)
			}
		}
		url := strings.ReplaceAll(s.server.URLAs(NodeRole, cluster.DatabaseName, "us-east"),
			strings.ReplaceAll(filepath.Join(s.server.Dir(), "certs"), "/", "%2F"), strings.ReplaceAll(string(own), "/", "%2F"))
		if url == s.server.URLAs(NodeRole, cluster.DatabaseName, "us-east") {
			t.Fatal("the URL names other files")
		}
		// long enough to connect, and short enough to wait for
		const life = 3 * time.Second
		renew(life)
		began := time.Now()
		db := s.mustOpenWith(testConfig(url), testDeps())
		pool := db.gateways.pick(0).reads
		held, err := pool.Acquire(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Release()
		fresh := func() error {
			cc := db.gateways.pick(0).pingConfig.Copy()
			db.files.refresh(s.ctx, cc)
			conn, err := pgx.ConnectConfig(s.ctx, cc)
			if err == nil {
				err = conn.Close(s.ctx)
			}
			return err
		}
		await(t, "the certificate ends", func() bool { return fresh() != nil })
		if time.Since(began) < life-time.Second {
			t.Errorf("new connections were refused after %s already", time.Since(began))
		}
		mustAnswer(t, s, held)
		renew(time.Hour)
		if err := fresh(); err != nil {
			t.Errorf("with the renewed certificate: %v", err)
		}
		certificate := filepath.Join(own.Database(), "client."+NodeRole+".crt")
		if err := os.WriteFile(certificate, []byte("half a"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := fresh(); err != nil {
			t.Errorf("with an invalid file the last good certificate must be used: %v", err)
		}
		mustAnswer(t, s, held)
	})
}

func mustAnswer(t *testing.T, s *store, conn *pgxpool.Conn) {
	t.Helper()
	var one int
	if err := conn.QueryRow(s.ctx, `SELECT 1`).Scan(&one); err != nil {
		t.Errorf("an old connection: %v", err)
	}
}

// TestTheCertificateDecidesTheUser checks that a certificate opens the database for its own user only. A node's
// certificate for its peers opens nothing.
func TestTheCertificateDecidesTheUser(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, s *store) {
		dir := certs.Dir(filepath.Join(s.server.Dir(), "certs"))
		certificate, key := dir.Node("us-east")
		good := mustParse(t, s.server.URLAs(NodeRole, cluster.DatabaseName, "us-east"))
		own := good.TLSConfig.Certificates
		nodes, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, attempt := range []struct {
			what, user   string
			certificates []tls.Certificate
			secure, ok   bool
		}{
			{"its own certificate", NodeRole, own, true, true},
			{"the certificate of another user", MigratorRole, own, true, false},
			{"the certificate of another user", s.admin.Config().User, own, true, false},
			{"a node's certificate", NodeRole, []tls.Certificate{nodes}, true, false},
			{"a node's certificate", s.admin.Config().User, []tls.Certificate{nodes}, true, false},
			{"a node's certificate", "node", []tls.Certificate{nodes}, true, false},
			{"no certificate", NodeRole, nil, true, false},
			{"no TLS", NodeRole, nil, false, false},
		} {
			cc := good.Copy()
			cc.User, cc.Fallbacks, cc.ConnectTimeout = attempt.user, nil, 5*time.Second
			cc.TLSConfig.Certificates = attempt.certificates
			if !attempt.secure {
				cc.TLSConfig = nil
			}
			conn, err := pgx.ConnectConfig(s.ctx, cc)
			if err == nil {
				err = conn.Close(s.ctx)
			}
			if (err == nil) != attempt.ok {
				t.Errorf("%s with %s: %v, want success: %t", attempt.user, attempt.what, err, attempt.ok)
			}
		}
	})
}

func TestTransportIsVerified(t *testing.T) {
	for url, want := range map[string]struct{ production, development bool }{
		"postgres://u@db.example:1/x?sslmode=verify-full":                  {true, false},
		"postgres://u@db.example:1,127.0.0.1:2/x?sslmode=verify-full":      {true, false},
		"postgres://u@127.0.0.1:2/x?sslmode=verify-full":                   {true, true},
		"postgres:///x?host=/var/run/postgresql":                           {true, true},
		"host=db.example port=1 dbname=x sslmode=verify-full":              {true, false},
		"postgres://u@127.0.0.1:1,localhost:2,[::1]:3/x?sslmode=disable":   {false, true},
		"postgres://u@127.0.0.1:1/x":                                       {false, true},
		"postgres://u@127.0.0.1:1/x?sslmode=verify-ca":                     {false, true},
		"postgres://u@db.example:1/x":                                      {false, false},
		"postgres://u@db.example:1/x?sslmode=disable":                      {false, false},
		"postgres://u@db.example:1/x?sslmode=require":                      {false, false},
		"postgres://u@db.example:1/x?sslmode=verify-ca":                    {false, false},
		"postgres://u@127.0.0.1:1,db.example:1/x?sslmode=prefer":           {false, false},
		"postgres://u@db.example:1/x?sslmode=verify-full&sslrootcert=/no/": {false, false},
		"nonsense": {false, false},
	} {
		for plaintext, ok := range map[bool]bool{false: want.production, true: want.development} {
			if err := CheckTransport(url, plaintext); (err == nil) != ok {
				t.Errorf("%s, plain text allowed %t: %v, want success: %t", url, plaintext, err, ok)
			}
		}
	}
}

func TestCertificateFilesOfAURL(t *testing.T) {
	certificate, key, authority := CertificateFiles("postgres://u@a:1,b:2/x?sslmode=verify-full&sslcert=%2Fc&sslkey=%2Fk&sslrootcert=%2Fr")
	if certificate != "/c" || key != "/k" || authority != "/r" {
		t.Errorf("%q %q %q", certificate, key, authority)
	}
	t.Setenv("PGSSLROOTCERT", "/from/environment")
	if _, _, authority := CertificateFiles("postgres://u@a:1/x"); authority != "/from/environment" {
		t.Errorf("the environment's authority is %q", authority)
	}
	if _, _, authority := CertificateFiles("postgres://u@a:1/x?sslrootcert=system"); authority != "" {
		t.Errorf("the machine's own list is the file %q", authority)
	}
}
