package crdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The accounts, which log in by their certificates. On PostgreSQL they belong
// to the whole server, so several databases share them.
const (
	NodeRole     = "punchclock_node"     // nodes
	OperatorRole = "punchclock_operator" // `punchclock company`, `punchclock audit`
	MigratorRole = "punchclock_migrator" // `punchclock migrate`; owns the database and its tables
)

// grant is what a role may do with some tables.
type grant struct {
	role       string
	privileges string
	tables     string
}

// grants are all that the node's and the operator's role may do. Nobody but the
// migrator can change or remove a punch.
var grants = []grant{
	{NodeRole, "SELECT, INSERT", "punches"},
	{NodeRole, "SELECT", "companies, homes, goose_db_version"},
	{NodeRole, "SELECT, INSERT, UPDATE", "controls"},

	{OperatorRole, "SELECT, INSERT", "companies, homes"},
	{OperatorRole, "SELECT", "punches, controls, goose_db_version"},
}

// lockGrant lets nodes lock the fence on PostgreSQL, where FOR SHARE takes the
// right to update a column, whichever it is. This is the one whose change
// neither opens nor shuts the fence. CockroachDB is not asked to lock, see
// insertSQL: there the right would be for the whole row.
const lockGrant = `GRANT UPDATE (moving_from) ON homes TO ` + NodeRole

// prepareRoles makes the accounts and hands the database to the migrator, when
// the caller is an administrator, and lets conn go on as the migrator. Others
// must find it done.
func prepareRoles(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	var admin bool
	if err := conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&admin); err != nil {
		return fmt.Errorf("ask who this is: %w", err)
	}
	var statements []string
	for _, role := range []string{MigratorRole, NodeRole, OperatorRole} {
		var there bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, role).Scan(&there); err != nil {
			return fmt.Errorf("ask for role %s: %w", role, err)
		}
		if there {
			continue
		}
		if !admin {
			return fmt.Errorf("the role %s is not there: run `punchclock migrate` once as the database's administrator", role)
		}
		statements = append(statements, `CREATE ROLE `+role+` LOGIN`)
	}
	if !admin {
		return nil
	}
	if err := runAll(ctx, conn, engine, statements); err != nil {
		return err
	}
	if err := handOver(ctx, conn, engine); err != nil {
		return err
	}
	return becomeMigrator(ctx, conn)
}

// becomeMigrator lets an administrator's connection go on as the migrator, so
// that this owns what is made.
func becomeMigrator(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SET ROLE `+MigratorRole)
	if err != nil {
		return fmt.Errorf("go on as %s: %w", MigratorRole, err)
	}
	return nil
}

// handOver makes the migrator the owner of everything, also of what somebody
// else has made, such as the administrator who restored a backup; and takes
// from everybody the right to make tables, which CockroachDB gives.
func handOver(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	statements, err := askStrings(ctx, conn, `
		SELECT statement FROM (
			SELECT 1, 'ALTER DATABASE ' || quote_ident(datname) || ' OWNER TO ' || $1 FROM pg_database
			WHERE datname = current_database() AND pg_get_userbyid(datdba) <> $1
			UNION ALL
			SELECT 2, 'GRANT CREATE ON SCHEMA public TO ' || $1
			WHERE has_schema_privilege($2, 'public', 'CREATE') OR NOT has_schema_privilege($1, 'public', 'CREATE')
			UNION ALL
			SELECT 3, 'REVOKE CREATE ON SCHEMA public FROM PUBLIC' WHERE has_schema_privilege($2, 'public', 'CREATE')
			UNION ALL
			SELECT 4, 'ALTER TABLE ' || quote_ident(c.relname) || ' OWNER TO ' || $1
			FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
			WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> $1
		) AS todo (step, statement) ORDER BY step`, MigratorRole, NodeRole)
	if err != nil {
		return fmt.Errorf("ask who owns the tables: %w", err)
	}
	// CockroachDB's type goes with the database, PostgreSQL's sequences with
	// their tables.
	question := `SELECT 'ALTER SEQUENCE ' || quote_ident(c.relname) || ' OWNER TO ' || $1
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND c.relkind = 'S' AND pg_get_userbyid(c.relowner) <> $1`
	if engine == PostgreSQL {
		question = `SELECT 'ALTER TYPE ' || typname || ' OWNER TO ' || $1 FROM pg_type
			WHERE typname = 'crdb_internal_region' AND pg_get_userbyid(typowner) <> $1`
	}
	more, err := askStrings(ctx, conn, question, MigratorRole)
	if err != nil {
		return fmt.Errorf("ask who owns the rest: %w", err)
	}
	statements = append(statements, more...)
	return runAll(ctx, conn, engine, statements)
}

// applyGrants gives the roles exactly what grants says of its tables.
func applyGrants(ctx context.Context, conn *pgx.Conn, engine Engine) error {
	statements, err := missingGrants(ctx, conn)
	if err != nil {
		return fmt.Errorf("ask for the roles' rights: %w", err)
	}
	if engine == PostgreSQL {
		var may bool
		if err := conn.QueryRow(ctx, `SELECT has_column_privilege($1, 'homes', 'moving_from', 'UPDATE')`, NodeRole).Scan(&may); err != nil {
			return fmt.Errorf("ask for the roles' rights: %w", err)
		}
		if !may {
			statements = append(statements, lockGrant)
		}
	}
	return runAll(ctx, conn, engine, statements)
}

// missingGrants returns the statements after which the roles have exactly the
// rights of grants: one for each line of it that is not so yet.
func missingGrants(ctx context.Context, conn *pgx.Conn) (statements []string, err error) {
	have, err := askStrings(ctx, conn, `
		SELECT grantee || ' ' || table_name || ' ' || privilege_type FROM information_schema.role_table_grants
		WHERE table_schema = 'public' AND grantee = ANY ($1::text[])`, []string{NodeRole, OperatorRole})
	if err != nil {
		return nil, err
	}
	for _, g := range grants {
		want, all := strings.Split(g.privileges, ", "), true
		for table := range strings.SplitSeq(g.tables, ", ") {
			for _, privilege := range want {
				all = all && slices.Contains(have, g.role+" "+table+" "+privilege)
			}
			for _, line := range have {
				privilege, same := strings.CutPrefix(line, g.role+" "+table+" ")
				if same && !slices.Contains(want, privilege) { // given by hand, or by an older release
					statements = append(statements, "REVOKE "+privilege+" ON TABLE "+table+" FROM "+g.role)
				}
			}
		}
		if !all {
			statements = append(statements, "GRANT "+g.privileges+" ON TABLE "+g.tables+" TO "+g.role)
		}
	}
	return statements, nil
}

// runAll runs the statements in one transaction: on CockroachDB each would else
// wait by itself until all its nodes know of the change.
func runAll(ctx context.Context, conn *pgx.Conn, engine Engine, statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	if engine == CockroachDB {
		statements = append([]string{`SET LOCAL autocommit_before_ddl = off`}, statements...)
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
}

func askStrings(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
